import { existsSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import type {
  AdapterOptions,
  FrozenType,
  Model,
  OpenOptions,
  Progress,
  TrainingRecord,
  TrainJob,
} from '../contracts/index.ts';
import {
  checkAgainst,
  compileSchema,
  digestFolder,
  digestOf,
  Random,
  readJson,
  readText,
  writeFileAtomic,
} from '../kit/index.ts';
import { openRegistry } from '../plugins/registry.ts';
import { parsePlacedYaml, type PlacedYaml } from '../plugins/yaml-places.ts';
import { templateDigest } from '../train/index.ts';
import { mergeJobErrors } from './merge-errors.ts';

export interface MergeStep {
  /** Absolute path; null where the method needs none. */
  readonly base: string | null;
  /** Path of the folder that is written. */
  readonly output: string;
  readonly seed: number;
  readonly threads?: number;
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

/** Parameters of the trainer `merge`; paths of models are absolute. */
export type MergeModelsStep = MergeStep & { readonly parameters: Readonly<Record<string, unknown>> };

export type MergeAdapterStep = MergeStep & {
  /** Absolute path of a PEFT folder. */
  readonly adapter: string;
  readonly dtype: 'f32' | 'bf16';
  /**
   * What the base is rounded to before the adapter is added: that on which it was trained. Null: what the adapter's own
   * record says, else f32.
   */
  readonly baseType: FrozenType | null;
};

export interface MergeResult {
  readonly path: string;
  readonly digest: string;
  readonly method: string;
  readonly metrics: Readonly<Record<string, number>>;
}

/**
 * Merges checkpoints of one base into a folder that the gate can judge. Nothing that exists is overwritten.
 * @throws CUPEL_MERGE_*, CUPEL_FIELD_*, and the errors of a broken checkpoint
 */
export async function mergeModels(step: MergeModelsStep): Promise<MergeResult> {
  const trainer = await (await openRegistry()).load('trainer', 'merge');
  const output = resolve(step.output);
  const job: TrainJob = {
    id: basename(output),
    base: step.base === null ? null : { id: basename(step.base), path: step.base },
    model: null,
    openLearner: null,
    openTeacher: null,
    services: null,
    data: [],
    replay: null,
    parameters: step.parameters,
    seed: step.seed,
    output,
    work: null,
    resume: false,
    validation: null,
  };
  const plan = await trainer.plan(job);
  const task = step.progress.begin(`merge ${job.id}`, plan.steps, 'tensors');
  try {
    const { metrics } = await trainer.train(
      job,
      (event) => {
        if (event.type !== 'progress') return;
        task.advance();
        task.detail(event.what);
      },
      step.signal,
    );
    const method = typeof step.parameters['method'] === 'string' ? step.parameters['method'] : 'linear';
    return { path: output, digest: await digestFolder(output), method, metrics };
  } finally {
    task.end();
  }
}

/**
 * Adds a LoRA adapter to its base: W + scale · B A, on the base as it was held while the adapter was trained. The result is
 * held against base and adapter side by side before it is handed over.
 * @throws CUPEL_MERGE_ADAPTER_INVALID, CUPEL_MERGE_ADAPTER_DIFFERS, CUPEL_MERGE_NO_ENGINE, and what the engine throws of a
 * bad base or adapter
 */
export async function mergeAdapter(step: MergeAdapterStep): Promise<MergeResult> {
  const output = resolve(step.output);
  if (existsSync(output)) {
    throw mergeJobErrors.CUPEL_MERGE_TARGET({ message: 'the target exists already', where: output });
  }
  if (step.base === null) {
    throw mergeJobErrors.CUPEL_MERGE_RECIPE({ message: 'an adapter needs its base', where: 'base' });
  }
  const shape = await adapterOptions(step.adapter);
  const trained = await adapterRecord(step.adapter);
  const baseType = step.baseType ?? trained?.base ?? 'f32';
  const { dtype, adapter, threads } = step;
  // Whatever else is wrong with the adapter is refused here, by name.
  const model = await openForMerge(step.base, { adapters: { adapter } }, threads);
  try {
    for (const text of doubts(step, trained, baseType, model)) step.progress.note(`  ${text}`);
    if (baseType !== 'f32') {
      return await mergeIntoHeld(step, output, model, shape, baseType);
    }
    const parameters = { method: 'adapter', adapter, dtype };
    const result = await mergeModels({ ...step, output, parameters });
    const merged = await openForMerge(output, {}, threads);
    try {
      const difference = await scoreDifference(model, merged);
      if (dtype === 'f32' && !(difference <= largestDifference)) {
        throw mergeJobErrors.CUPEL_MERGE_ADAPTER_DIFFERS({
          message: `a log-probability is off by ${difference.toExponential(1)}; ${largestDifference} is allowed`,
          where: output,
        });
      }
      return { ...result, metrics: { ...result.metrics, merge_difference: difference } };
    } catch (error) {
      await rm(output, { recursive: true, force: true });
      throw error;
    } finally {
      await merged.close();
    }
  } finally {
    await model.close();
  }
}

/** Of log-probabilities, in f32: more is a mistake and not rounding. */
const largestDifference = 1e-3;

/** Largest difference of a log-probability over a fixed list of tokens. */
async function scoreDifference(adapted: Model, merged: Model): Promise<number> {
  const random = new Random(1, 'merge probe');
  const ids = Array.from({ length: Math.min(64, adapted.contextLength) }, () => random.integer(adapted.vocabularySize));
  const request = { contextIds: ids.slice(0, 1), continuationIds: ids.slice(1) };
  const [expected] = await adapted.score([{ ...request, adapter: 'adapter' }]);
  const [found] = await merged.score([request]);
  const differences = (expected?.logProbabilities ?? []).map((value, index) =>
    Math.abs(value - (found?.logProbabilities[index] ?? Number.NaN)),
  );
  return Math.max(...differences);
}

/** Through the learner, which holds the base in the very numbers that the adapter was trained over. */
async function mergeIntoHeld(
  step: MergeAdapterStep,
  output: string,
  model: Model,
  adapter: AdapterOptions,
  baseType: FrozenType,
): Promise<MergeResult> {
  const task = step.progress.begin(`merge ${basename(output)}`, 1, 'adapter');
  const partial = `${output}.partial`;
  try {
    const learner = await learnerOf(model, step, adapter, baseType);
    try {
      await rm(partial, { recursive: true, force: true });
      await learner.save(partial, { dtype: step.dtype, form: 'model' });
    } finally {
      await learner.close();
    }
    const merge = {
      method: 'adapter',
      parents: [{ name: basename(step.adapter), digest: await digestFolder(step.adapter) }],
      parameters: { base: baseType, dtype: step.dtype },
    };
    const record: TrainingRecord = {
      version: 1,
      trainer: 'merge-adapter@1.0.0',
      parent: model.digest,
      recipeDigest: digestOf(merge),
      dataDigest: digestOf({ data: [], replay: [] }),
      templateDigest: templateDigest(model),
      seed: step.seed,
      steps: 0,
      trainedTokens: 0,
      metrics: {},
      merge,
    };
    await writeFileAtomic(join(partial, 'cupel_run.json'), `${JSON.stringify(record, null, 2)}\n`);
    await rename(partial, output);
    task.advance();
    return { path: output, digest: await digestFolder(output), method: 'adapter', metrics: {} };
  } finally {
    task.end();
    await rm(partial, { recursive: true, force: true });
  }
}

/** A merge as it stands in a recipe file, its paths absolute. */
export interface MergeRecipe {
  readonly base: string | null;
  readonly adapter: string | null;
  /** Null: what the adapter's own record says. */
  readonly baseType: FrozenType | null;
  readonly out: string | null;
  readonly seed: number;
  /** Parameters of the trainer `merge`. */
  readonly parameters: Readonly<Record<string, unknown>>;
}

/**
 * Reads a merge from YAML or JSON; relative paths start at the file.
 * @throws CUPEL_FILE_MISSING, CUPEL_JSON_INVALID, CUPEL_FIELD_UNKNOWN, CUPEL_FIELD_INVALID, each with file:line
 */
export async function readMergeRecipe(file: string): Promise<MergeRecipe> {
  const { value, placeOf } = parsePlacedYaml(await readText(file), file);
  return checkMergeRecipe(value, file, dirname(resolve(file)), placeOf);
}

/** @throws CUPEL_FIELD_UNKNOWN, CUPEL_FIELD_INVALID, CUPEL_MERGE_RECIPE */
export async function checkMergeRecipe(
  value: unknown,
  where: string,
  folder: string,
  placeOf?: PlacedYaml['placeOf'],
): Promise<MergeRecipe> {
  const validate = compileSchema(await mergeRecipeSchema(), where);
  const { base, adapter, baseType, out, seed, ...parameters } = checkAgainst<{
    readonly base?: string;
    readonly adapter?: string;
    readonly baseType?: FrozenType;
    readonly out?: string;
    readonly seed?: number;
    readonly method?: string;
    readonly models?: readonly { readonly path: string }[];
  }>(validate, value, where, placeOf);
  const isAdapter = parameters.method === 'adapter';
  if (isAdapter !== (adapter !== undefined)) {
    throw mergeJobErrors.CUPEL_MERGE_RECIPE({
      message: isAdapter ? 'method adapter needs an `adapter`' : '`adapter` belongs to method adapter alone',
      where: placeOf?.(['method']) ?? where,
    });
  }
  const at = (path: string): string => resolve(folder, path);
  return {
    base: base === undefined ? null : at(base),
    adapter: adapter === undefined ? null : at(adapter),
    baseType: baseType ?? null,
    out: out === undefined ? null : at(out),
    seed: seed ?? 1,
    parameters: {
      ...parameters,
      ...(parameters.models === undefined
        ? {}
        : { models: parameters.models.map((model) => ({ ...model, path: at(model.path) })) }),
    },
  };
}

/** What a merge recipe may hold: the parameters of the trainer `merge`, or of an adapter, and where things lie. */
async function mergeRecipeSchema(): Promise<object> {
  const { options } = await (await openRegistry()).load('trainer', 'merge');
  const properties = options['properties'] as Readonly<Record<string, object>>;
  const path = { type: 'string', minLength: 1 };
  return {
    type: 'object',
    additionalProperties: false,
    properties: {
      ...properties,
      base: path,
      adapter: path,
      baseType: { enum: ['f32', 'bf16', 'q8_0', 'q4_0'] },
      out: path,
      seed: { type: 'integer', minimum: 0 },
    },
  };
}

async function openForMerge(path: string, options: OpenOptions, threads: number | undefined): Promise<Model> {
  const registry = await openRegistry();
  const checkpoint = { id: basename(path), path };
  for (const id of await registry.ids('engine')) {
    const engine = await registry.load('engine', id);
    const able = engine.capabilities.learn && engine.capabilities.adapters;
    if (able && (await engine.accepts(checkpoint))) {
      return engine.open(checkpoint, { ...options, ...(threads === undefined ? {} : { threads }) });
    }
  }
  throw mergeJobErrors.CUPEL_MERGE_NO_ENGINE({
    message: existsSync(path) ? 'no engine that can merge adapters accepts this base' : `${path} does not exist`,
    where: path,
  });
}

async function learnerOf(
  model: Model,
  { threads, base }: MergeAdapterStep,
  adapter: AdapterOptions,
  baseType: FrozenType,
): ReturnType<NonNullable<Model['learner']>> {
  if (model.learner === undefined) {
    throw mergeJobErrors.CUPEL_MERGE_NO_ENGINE({ message: `${model.engine} cannot train`, where: base ?? '' });
  }
  return model.learner({ frozen: true, adapter, base: baseType, ...(threads === undefined ? {} : { threads }) });
}

interface TrainedAdapter {
  readonly parent: string;
  readonly base: FrozenType;
}

const frozenTypes: readonly unknown[] = ['f32', 'bf16', 'q8_0', 'q4_0'] satisfies FrozenType[];

/** What the record of an adapter that was trained here says of its base; null: there is none. */
async function adapterRecord(folder: string): Promise<TrainedAdapter | null> {
  const file = join(folder, 'cupel_run.json');
  if (!existsSync(file)) return null;
  const record = await readJson<Partial<TrainingRecord> | null>(file);
  const base = record?.tuning?.['base'];
  if (typeof record?.parent !== 'string' || !frozenTypes.includes(base)) return null;
  return { parent: record.parent, base: base as FrozenType };
}

/** What speaks against this merge: it may be meant, so it is said and not refused. */
function doubts(
  { adapter, base }: MergeAdapterStep,
  trained: TrainedAdapter | null,
  baseType: FrozenType,
  model: Model,
): string[] {
  if (trained === null) return [];
  const name = basename(adapter);
  return [
    ...(trained.base === baseType
      ? []
      : [`${name} was trained over a base held as ${trained.base}, and is merged into one held as ${baseType}`]),
    ...(trained.parent === model.digest ? [] : [`${name} was trained over another base than ${basename(base ?? '')}`]),
  ];
}

/** Rank, alpha and targets of a PEFT folder. What the engine cannot compute it refuses itself. @throws CUPEL_MERGE_ADAPTER_INVALID */
async function adapterOptions(folder: string): Promise<AdapterOptions> {
  const file = join(folder, 'adapter_config.json');
  const config = await readJson<Readonly<Record<string, unknown>> | null>(file);
  const [rank, alpha, targets] = [config?.['r'], config?.['lora_alpha'], config?.['target_modules']];
  const listed = Array.isArray(targets) && targets.every((target) => typeof target === 'string');
  if (typeof rank !== 'number' || typeof alpha !== 'number') {
    throw mergeJobErrors.CUPEL_MERGE_ADAPTER_INVALID({
      message: `r is ${JSON.stringify(rank) ?? 'missing'} and lora_alpha ${JSON.stringify(alpha) ?? 'missing'}; numbers were expected`,
      where: file,
    });
  }
  return { rank, alpha, ...(listed ? { targets } : {}), from: folder };
}
