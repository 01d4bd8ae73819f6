import { createHash } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pythonYaml } from '../lib/exports/yaml.ts';
import { digestOf, writeFileAtomic } from '../../src/kit/index.ts';
import { accelerateConfig, deepspeedConfig, fsdpConfig } from './distributed.ts';
import type { TrlJob } from './parameters.ts';
import type { ChildRow } from './rows.ts';
import { removeTornCheckpoints } from './work.ts';

/** Everything that a child process is told, beside where its files lie. */
export interface ChildTask {
  readonly trl: Pick<TrlJob, 'method' | 'recipe' | 'processes' | 'accumulation' | 'device' | 'distributed' | 'options'>;
  /** Absolute path of the base, a Hugging Face folder. */
  readonly base: string;
  /** Digest of its weights. */
  readonly parent: string;
  readonly rows: readonly ChildRow[];
  readonly steps: readonly { readonly rows: readonly number[]; readonly learningRate: number }[];
  readonly seed: number;
  /** Any token: padding is masked. */
  readonly padToken: number;
  /** Absolute path of the folder that is written. */
  readonly output: string;
  readonly packages: readonly string[];
}

/** Paths of a job's files, all in one folder. */
export interface JobFolder {
  readonly job: string;
  readonly events: string;
  readonly stop: string;
  readonly log: string;
  readonly checkpoints: string;
  readonly digestFile: string;
}

export function jobFolder(folder: string): JobFolder {
  return {
    job: join(folder, 'job.json'),
    events: join(folder, 'events.jsonl'),
    stop: join(folder, 'STOP'),
    log: join(folder, 'trl.log'),
    checkpoints: join(folder, 'checkpoints'),
    digestFile: join(folder, 'job-digest'),
  };
}

/** What must be the same for a run to go on: everything but paths and how checkpoints are kept. */
export function taskDigest({ trl, parent, rows, steps, seed }: ChildTask): string {
  const { method, processes, accumulation, device, distributed, options } = trl;
  const { checkpoints: _, ...recipe } = trl.recipe;
  const settings = { method, processes, accumulation, device, distributed, options, recipe, parent, seed };
  const hash = createHash('sha256').update(digestOf(settings));
  // A piece at a time: all rows in one text may be more than a string can hold.
  for (const piece of pieces(rows)) hash.update(piece);
  for (const piece of pieces(steps)) hash.update(piece);
  return `sha256:${hash.digest('hex')}`;
}

/** Lines of JSON, in texts of some hundred lines each. */
function* pieces(values: readonly unknown[]): Generator<string> {
  for (let start = 0; start < values.length; start += 256) {
    yield values
      .slice(start, start + 256)
      .map((value) => `${JSON.stringify(value)}\n`)
      .join('');
  }
}

/** Writes the job, its rows and the configurations of what spreads it, for the child process to read. */
export async function writeJobFolder(folder: string, task: ChildTask, resume: boolean): Promise<JobFolder> {
  const files = jobFolder(folder);
  const { trl, steps } = task;
  const { recipe, processes, accumulation } = trl;
  const { tuning } = recipe;
  await mkdir(folder, { recursive: true });
  await rm(files.stop, { force: true });
  if (resume) await removeTornCheckpoints(files.checkpoints, processes);
  else await rm(files.checkpoints, { recursive: true, force: true });
  const rowsFile = join(folder, 'rows.jsonl');
  await writeFile(rowsFile, pieces(task.rows));
  const fsdp = fsdpConfig(trl);
  const deepspeed = deepspeedConfig(trl);
  for (const [name, config] of [
    ['fsdp.json', fsdp],
    ['deepspeed.json', deepspeed],
  ] as const) {
    if (config === null) await rm(join(folder, name), { force: true });
    else await writeFile(join(folder, name), `${JSON.stringify(config, null, 2)}\n`);
  }
  const device = trl.device === 'cpu' ? 'cpu' : 'cuda';
  await writeFile(join(folder, 'accelerate.yaml'), pythonYaml(accelerateConfig(trl, device)));
  const largest = steps.reduce((most, { rows }) => Math.max(most, rows.length), 0);
  const job = {
    method: trl.method,
    base: task.base,
    rows: rowsFile,
    events: files.events,
    stopFile: files.stop,
    output: task.output,
    adapterFolder: join(folder, 'adapter'),
    checkpointFolder: files.checkpoints,
    processes,
    accumulation,
    // TRL's KTO refuses 1; what is computed together comes from the steps.
    rowsPerMicroBatch: Math.max(trl.method === 'kto' ? 2 : 1, Math.ceil(largest / (processes * accumulation))),
    steps: steps.map(({ rows }) => rows),
    learningRates: steps.map(({ learningRate }) => learningRate),
    seed: task.seed,
    device: trl.device,
    dtype: recipe.dtype,
    recipe: {
      learningRate: recipe.learningRate,
      weightDecay: recipe.weightDecay,
      beta1: recipe.beta1,
      beta2: recipe.beta2,
      epsilon: recipe.epsilon,
      maxGradNorm: recipe.maxGradNorm,
      compute: recipe.compute,
      recompute: recipe.recompute && fsdp === null,
    },
    fsdp: fsdp === null ? null : join(folder, 'fsdp.json'),
    deepspeed: deepspeed === null ? null : join(folder, 'deepspeed.json'),
    checkpoints:
      recipe.checkpoints?.everySteps === undefined
        ? null
        : { everySteps: recipe.checkpoints.everySteps, keep: recipe.checkpoints.keep },
    options: trl.options,
    mismatched: trl.method === 'kto' && (trl.options['loss_type'] ?? 'kto') === 'kto',
    adapter:
      tuning.kind === 'full'
        ? null
        : {
            rank: tuning.rank,
            alpha: tuning.alpha,
            targets: tuning.targets ?? defaultTargets,
            save: tuning.save ?? 'model',
          },
    padToken: task.padToken,
    probe: [steps[0]?.rows[0] ?? 0],
    resume,
    packages: task.packages,
  };
  await writeFile(files.job, `${JSON.stringify(job)}\n`);
  await writeFileAtomic(files.digestFile, `${taskDigest(task)}\n`);
  return files;
}

/** The seven projections of a layer, as the native trainers take them. */
export const defaultTargets: readonly string[] = [
  'q_proj',
  'k_proj',
  'v_proj',
  'o_proj',
  'gate_proj',
  'up_proj',
  'down_proj',
];
