import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import type {
  CacheType,
  Checkpoint,
  ComparedModel,
  Comparison,
  Engine,
  Progress,
  QuantizeReport,
  WeightType,
} from '../contracts/index.ts';
import { ggufFileOf, readText } from '../kit/index.ts';
import { openRegistry } from '../plugins/registry.ts';
import { jobErrors } from './errors.ts';
import { isStoreId } from './project.ts';

export interface QuantizeStep {
  /** Absolute path of the checkpoint. */
  readonly source: string;
  /** Path of the GGUF file, or for `w8a8` of the folder, that is written. */
  readonly target: string;
  readonly type: string;
  readonly preTokenizer?: string;
  readonly threads?: number;
}

/** A checkpoint that was written in another type. */
export interface QuantizeResult extends QuantizeReport {
  readonly path: string;
  readonly type: string;
}

/**
 * Writes a checkpoint in another type. Nothing that exists is overwritten.
 * @throws CUPEL_QUANTIZE_TARGET, CUPEL_QUANTIZE_NO_ENGINE, and what the engine throws
 */
export async function quantizeCheckpoint(step: QuantizeStep): Promise<QuantizeResult> {
  const path = resolve(step.target);
  const wantsFolder = step.type === 'w8a8';
  if (wantsFolder === path.toLowerCase().endsWith('.gguf')) {
    throw jobErrors.CUPEL_QUANTIZE_TARGET({
      message: `type ${step.type} is written as a ${wantsFolder ? 'folder' : 'file whose name ends in .gguf'}, and the target is ${basename(path)}`,
      where: path,
    });
  }
  if (existsSync(path)) {
    throw jobErrors.CUPEL_QUANTIZE_TARGET({ message: 'the target exists already', where: path });
  }
  const checkpoint = { id: basename(step.source), path: step.source };
  const engine = await engineFor(checkpoint, 'quantize');
  await mkdir(dirname(path), { recursive: true });
  const report = await engine.quantize(checkpoint, {
    path,
    type: step.type,
    ...(step.preTokenizer === undefined ? {} : { preTokenizer: step.preTokenizer }),
    ...(step.threads === undefined ? {} : { threads: step.threads }),
  });
  return { path, type: step.type, ...report };
}

export interface CheckStep {
  /** Absolute paths of checkpoints. */
  readonly reference: string;
  readonly candidates: readonly string[];
  /** Weight types that the reference is tried in as it is loaded. */
  readonly weights: readonly WeightType[];
  /** Cache types that the candidates, or without any the reference, are tried with. */
  readonly caches: readonly CacheType[];
  /** Path of a UTF-8 text. */
  readonly text: string;
  readonly window: number;
  readonly threads?: number;
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

/** One line of a check; the first is the reference. */
export interface CheckedModel extends Comparison {
  readonly name: string;
  readonly weights: WeightType;
}

/**
 * Measures what quantization loses: perplexity, divergence from the reference and agreement on the most likely token,
 * over a text. Reference and candidates hold keys and values in f32, unless a cache type is tried.
 * @throws CUPEL_QUANTIZE_NO_ENGINE, and what the engine throws
 */
export async function checkQuantization(step: CheckStep): Promise<readonly CheckedModel[]> {
  const text = await readText(step.text);
  const plain = (path: string, weights: WeightType = 'as-stored', kvCache: CacheType = 'f32') => ({
    path,
    weights,
    kvCache,
  });
  const bases = [
    ...step.candidates.map((path) => plain(path)),
    ...step.weights.map((weights) => plain(step.reference, weights)),
  ];
  const tried = bases.length === 0 ? [plain(step.reference)] : bases;
  const candidates = [
    ...bases,
    ...step.caches.flatMap((cache) => tried.map(({ path, weights }) => plain(path, weights, cache))),
  ];
  const engine = await engineFor({ id: basename(step.reference), path: step.reference }, 'compare');
  const reference = plain(step.reference);
  const task = step.progress.begin(`check ${basename(step.reference)}`, 100, '%');
  let shown = 0;
  try {
    const found = await engine.compare({
      reference,
      candidates,
      text,
      window: step.window,
      signal: step.signal,
      ...(step.threads === undefined ? {} : { threads: step.threads }),
      onProgress: (share) => {
        const now = Math.floor(100 * share);
        task.advance(now - shown);
        shown = now;
      },
    });
    return found.map((one, index) => named([reference, ...candidates][index] ?? reference, one));
  } finally {
    task.end();
  }
}

function named({ path, weights = 'as-stored' }: ComparedModel, comparison: Comparison): CheckedModel {
  return { name: basename(path), weights, ...comparison };
}

/** The first engine that accepts a checkpoint and can do what is asked. @throws CUPEL_QUANTIZE_NO_ENGINE */
async function engineFor<Ability extends 'quantize' | 'compare'>(
  checkpoint: Checkpoint,
  ability: Ability,
): Promise<Engine & Required<Pick<Engine, Ability>>> {
  const registry = await openRegistry();
  for (const id of await registry.ids('engine')) {
    const engine = await registry.load('engine', id);
    if (engine[ability] !== undefined && (await engine.accepts(checkpoint))) {
      return engine as Engine & Required<Pick<Engine, Ability>>;
    }
  }
  throw jobErrors.CUPEL_QUANTIZE_NO_ENGINE({
    message: existsSync(checkpoint.path)
      ? `no engine that can ${ability} accepts ${checkpoint.id}`
      : `${checkpoint.path} does not exist`,
    where: checkpoint.path,
  });
}

/**
 * Absolute path of a checkpoint that is named by its path; null where the name can only be an id.
 * @throws CUPEL_CHECKPOINT_UNKNOWN for a path that leads to none
 */
export async function checkpointPath(name: string): Promise<string | null> {
  const path = resolve(name);
  if (existsSync(resolve(path, 'config.json')) || (await ggufFileOf(path)) !== null) return path;
  if (isStoreId(name)) return null;
  throw jobErrors.CUPEL_CHECKPOINT_UNKNOWN({
    message: existsSync(path)
      ? 'this is neither a checkpoint folder nor a GGUF file'
      : `there is no checkpoint at ${name}`,
    where: path,
  });
}
