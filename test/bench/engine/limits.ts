// What the machine allows: measured in the same run, and turned into the least time that a task's work needs.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { shape } from './model.ts';
import type { Task } from './task.ts';

export interface Limits {
  readonly threads: number;
  readonly readBytesPerSecond: number;
  /** Null where the processor's unit is not known to the measuring program. */
  readonly int8PerSecond: number | null;
  readonly int8Unit: string;
  readonly f32PerSecond: number | null;
}

/** Runs the kernels crate's example `bench_limits`, once a thread count. */
export function measureLimits(threads: number): Limits {
  const program = [
    'run',
    '--release',
    '--quiet',
    '--locked',
    '--package',
    'cupel-kernels',
    '--example',
    'bench_limits',
  ];
  const { status, stdout, stderr } = spawnSync(process.env['CARGO'] ?? 'cargo', [...program, '--', String(threads)], {
    cwd: fileURLToPath(new URL('../../../engines/native', import.meta.url)),
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`the limits of the machine could not be measured: ${stderr.slice(-600)}`);
  return JSON.parse(stdout) as Limits;
}

/** One run through the model: positions computed, rows of logits, pairs of query and cached position, cached positions read. */
interface Pass {
  readonly count: number;
  readonly rows: number;
  readonly logits: number;
  readonly pairs: number;
  readonly cached: number;
}

const { layers, hidden, heads, keyValueHeads, headSize, feedForward, vocabulary } = shape;
const headParameters = vocabulary * hidden;
const layerParameters =
  layers * (2 * hidden * heads * headSize + 2 * hidden * keyValueHeads * headSize + 3 * hidden * feedForward);
/** Q8_0: 32 values in 34 bytes. */
const weightBytes = ((headParameters + layerParameters) * 34) / 32;
/** Keys and values of a position as f16. */
const positionBytes = layers * 2 * keyValueHeads * headSize * 2;
/** A product with the key and one with the value, each a multiplication and an addition. */
const pairOperations = layers * heads * headSize * 4;

/** Bytes that evaluation cannot do without: the weights, and the cache of a shared prefix and of `batch` sequences. */
export function leastMemory(shared: number, own: number, batch: number): number {
  return weightBytes + positionBytes * (shared + batch * own);
}

/** Seconds to read the weights once. */
export function leastLoad(limits: Limits): number {
  return weightBytes / limits.readBytesPerSecond;
}

/**
 * Least seconds for a task: in each pass the weights are read or multiplied, whichever takes longer, then the cache is
 * read or multiplied likewise. Null if the machine's peak is not known.
 */
export function leastSeconds(task: Task, limits: Limits): number | null {
  const { readBytesPerSecond, int8PerSecond, f32PerSecond } = limits;
  if (int8PerSecond === null || f32PerSecond === null) return null;
  return passes(task).reduce((sum, { count, rows, logits, pairs, cached }) => {
    const integer = 2 * (layerParameters * rows + headParameters * logits);
    const matrices = Math.max(weightBytes / readBytesPerSecond, integer / int8PerSecond);
    const attention = Math.max((cached * positionBytes) / readBytesPerSecond, (pairs * pairOperations) / f32PerSecond);
    return sum + count * (matrices + attention);
  }, 0);
}

/** Sequences that an evaluation may decode together; more would change little. */
const batch = 32;

function passes(task: Task): Pass[] {
  switch (task.kind) {
    case 'prefill':
      return [prompt(task.tokens, 0, 1)];
    case 'decode': {
      const { sequences, prefix, tokens } = task;
      return [decoding(tokens, sequences, prefix, tokens / 2)];
    }
    case 'constrained':
      return [decoding(task.tokens, 8, 32, task.tokens / 2)];
    case 'evaluation': {
      const { prompts, shared, own, generated } = task;
      const ownPrompts = { ...prompt(own, shared, 1), count: prompts };
      return [
        prompt(shared, 0, 1),
        ownPrompts,
        decoding((prompts * generated) / batch, batch, shared, own + generated / 2),
      ];
    }
    case 'log-likelihood': {
      const { questions, options, context, continuation } = task;
      const rows = context + options * (continuation - 1);
      const pairs = context ** 2 / 2 + options * (continuation - 1) * (context + continuation / 2);
      return [{ count: questions, rows, logits: 1 + options * (continuation - 1), pairs, cached: rows }];
    }
    case 'agreement':
      return [];
  }
}

function prompt(tokens: number, before: number, logits: number): Pass {
  return { count: 1, rows: tokens, logits, pairs: tokens * (before + tokens / 2), cached: before + tokens };
}

function decoding(steps: number, sequences: number, shared: number, own: number): Pass {
  return {
    count: steps,
    rows: sequences,
    logits: sequences,
    pairs: sequences * (shared + own),
    cached: shared + sequences * own,
  };
}
