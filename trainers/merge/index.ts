import { existsSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import type { TrainingRecord, TrainJob, TrainPlan } from '../../src/contracts/index.ts';
import { defineTrainer, digestFolder, digestOf } from '../../src/kit/index.ts';
import { type AdapterFolder, openAdapter } from './adapter-folder.ts';
import { addAdapter } from './add-adapter.ts';
import { combine } from './combine.ts';
import { mergeErrors } from './errors.ts';
import { mergeOptions, type MergeParameters, readMergeParameters, usedParameters } from './parameters.ts';
import { checkAgreement, openParent, type Parent } from './parents.ts';
import { finite, type MergeWork, readerOf, writeMerged, writeRecord } from './write.ts';

const version = '1.0.0';

interface Work extends MergeWork {
  readonly parameters: MergeParameters;
  readonly seed: number;
  readonly models: readonly Parent[];
}

/** Opens base and models, checks that they fit, and closes them when `use` is done. */
async function withParents<T>(job: TrainJob, use: (work: Work) => Promise<T>): Promise<T> {
  const parameters = readMergeParameters(job.parameters, `parameters of job ${job.id}`);
  if (job.base === null && parameters.method !== 'linear') {
    throw mergeErrors.CUPEL_MERGE_INPUT({ message: `${parameters.method} needs a base`, where: `job ${job.id}` });
  }
  const opened = new Map<string, Parent>();
  let adapter: AdapterFolder | null = null;
  const open = async (path: string): Promise<Parent> => {
    const parent = opened.get(path) ?? (await openParent(path));
    opened.set(path, parent);
    return parent;
  };
  try {
    const base = job.base === null ? null : await open(resolve(job.base.path));
    const models: Parent[] = [];
    for (const { path } of parameters.models) models.push(await open(resolve(path)));
    const donor = base ?? (models[0] as Parent);
    for (const parent of opened.values()) if (parent !== donor) await checkAgreement(donor, parent);
    const dtype = parameters.dtype ?? storedAs(donor);
    if (parameters.adapter !== null) adapter = await openAdapter(parameters.adapter, donor.entries);
    const merge = adapter === null ? combined(donor, models, parameters, job.seed) : adapted(adapter, parameters);
    return await use({ donor, models, parameters, seed: job.seed, dtype, merge });
  } finally {
    for (const { tensors } of opened.values()) await tensors.close();
    await adapter?.tensors.close();
  }
}

/** Of linear merges the base is config and tokenizer alone: its weights take part only where it is named as a model. */
function combined(
  donor: Parent,
  models: readonly Parent[],
  parameters: MergeParameters,
  seed: number,
): MergeWork['merge'] {
  // A model that is named twice is read into one memory: the values are the same.
  const readers = new Map([...new Set(models)].map((model) => [model, readerOf(model)]));
  return async (name, own) => {
    const values: Float32Array[] = [];
    for (const model of models) values.push(model === donor ? own : ((await readers.get(model)?.(name)) ?? own));
    return combine({ name, base: parameters.method === 'linear' ? null : own, models: values }, parameters, seed);
  };
}

function adapted({ tensors, pairs }: AdapterFolder, { adapter }: MergeParameters): MergeWork['merge'] {
  return async (name, own) => {
    const pair = pairs.get(name);
    if (pair === undefined) return own;
    const [a, b] = [await tensors.read(pair.a), await tensors.read(pair.b)].map((one) => finite(one, adapter ?? ''));
    return addAdapter(own, { ...pair, a: a as Float32Array, b: b as Float32Array });
  };
}

function storedAs({ entries }: Parent): 'f32' | 'bf16' {
  return [...entries.values()].every(({ dtype }) => dtype === 'BF16') ? 'bf16' : 'f32';
}

/** At most: base, models, result, what the method keeps beside them, and the bytes that are read. */
function planOf({ donor, models }: Work): TrainPlan {
  const sizes = [...donor.entries.values()].map(({ shape }) => shape.reduce((product, size) => product * size, 1));
  const parameters = sizes.reduce((sum, size) => sum + size, 0);
  return {
    steps: sizes.length,
    tokens: 0,
    labelledTokens: 0,
    memoryBytes: 4 * Math.max(0, ...sizes) * (2 * models.length + 4),
    seconds: null,
    parameters,
    trainableParameters: 0,
  };
}

async function recordOf(work: Work, metrics: TrainingRecord['metrics']): Promise<TrainingRecord> {
  const { donor, models, parameters, seed, dtype } = work;
  const parents: { name: string; digest: string }[] = [];
  const paths = parameters.adapter === null ? models.map(({ path }) => path) : [resolve(parameters.adapter)];
  for (const path of paths) parents.push({ name: basename(path), digest: await digestFolder(path) });
  const used: MergeParameters['method'] = parameters.method;
  const merge = { method: used, parents, parameters: { ...usedParameters(parameters), dtype } };
  return {
    version: 1,
    trainer: `merge@${version}`,
    parent: await digestFolder(donor.path),
    recipeDigest: digestOf(merge),
    dataDigest: digestOf({ data: [], replay: [] }),
    templateDigest: 'none',
    seed,
    steps: 0,
    trainedTokens: 0,
    metrics,
    merge,
  };
}

export default defineTrainer({
  summary:
    'Merges checkpoints of one base tensor by tensor: linear, SLERP, task arithmetic, TIES, DARE; or an adapter into its base',
  version,
  needs: 'data',
  options: mergeOptions,
  plan: (job) => withParents(job, (work) => Promise.resolve(planOf(work))),
  train: (job, sink, signal) =>
    withParents(job, async (work) => {
      if (existsSync(job.output)) {
        throw mergeErrors.CUPEL_MERGE_OUTPUT_EXISTS({ message: `${job.output} exists`, where: job.output });
      }
      const partial = `${job.output}.partial`;
      await rm(partial, { recursive: true, force: true });
      const total = work.donor.entries.size;
      let done = 0;
      try {
        const relativeChange = await writeMerged(partial, work, (what) => {
          signal?.throwIfAborted();
          sink({ type: 'progress', done: ++done, total, what });
        });
        const metrics = { tensors: total, relative_change: relativeChange };
        await writeRecord(partial, await recordOf(work, metrics));
        await rename(partial, job.output);
        return { steps: 0, trainedTokens: 0, metrics, losses: [] };
      } finally {
        await rm(partial, { recursive: true, force: true });
      }
    }),
});
