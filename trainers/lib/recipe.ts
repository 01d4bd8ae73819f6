import type { Recipe, Schedule, Tuning } from '../../src/contracts/index.ts';
import { checkAgainst, compileSchema } from '../../src/kit/index.ts';

type Properties = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

const learningRate = {
  type: 'number',
  exclusiveMinimum: 0,
  maximum: 1,
  description: 'Highest learning rate of the schedule.',
} as const;

/** One object form, told apart by its `kind`; an error names the fields of that form alone. */
function form(kinds: readonly string[], properties: Properties, required: readonly string[] = []): object {
  return {
    if: { type: 'object', properties: { kind: { enum: kinds } }, required: ['kind'] },
    then: { properties: { kind: {}, ...properties }, required: ['kind', ...required], additionalProperties: false },
  };
}

function stringOrKind(names: readonly string[], kinds: readonly string[], forms: readonly object[]): object {
  return {
    type: ['string', 'object'],
    allOf: [
      { if: { type: 'string' }, then: { enum: names } },
      { if: { type: 'object' }, then: { properties: { kind: { enum: kinds } }, required: ['kind'] } },
      ...forms,
    ],
  };
}

const share = { type: 'number', minimum: 0, maximum: 1 } as const;
const schedule = {
  ...stringOrKind(
    ['constant', 'linear', 'cosine', 'cosine-restarts', 'polynomial', 'inverse-sqrt'],
    ['cosine', 'cosine-restarts', 'polynomial', 'inverse-sqrt', 'wsd'],
    [
      form(['cosine'], { cycles: { type: 'number', exclusiveMinimum: 0 }, minimumRatio: share }),
      form(['cosine-restarts'], { cycles: { type: 'integer', minimum: 1 } }),
      form(['polynomial'], {
        power: { type: 'number', exclusiveMinimum: 0 },
        end: { type: 'number', minimum: 0, maximum: 1 },
      }),
      form(['inverse-sqrt'], { timescale: { type: 'number', exclusiveMinimum: 0 } }),
      form(
        ['wsd'],
        {
          decaySteps: { type: 'integer', minimum: 1 },
          stableSteps: { type: 'integer', minimum: 0 },
          decay: { enum: ['linear', 'cosine', '1-sqrt'] },
          cycles: { type: 'number', exclusiveMinimum: 0 },
          minimumRatio: share,
        },
        ['decaySteps'],
      ),
    ],
  ),
  default: 'linear',
  description: 'Learning rate over the steps: a name, or an object with `kind` and its settings.',
};

const adapter = {
  rank: { type: 'integer', minimum: 1, maximum: 4096 },
  alpha: { type: 'number', exclusiveMinimum: 0, maximum: 65536 },
  targets: { type: 'array', minItems: 1, uniqueItems: true, items: { type: 'string', pattern: '^[A-Za-z0-9_]+$' } },
  save: { enum: ['model', 'adapter'] },
} as const;
const tuning = {
  ...stringOrKind(
    ['full', 'lora', 'qlora'],
    ['full', 'lora', 'qlora'],
    [
      form(['full'], {}),
      form(['lora'], { ...adapter, base: { enum: ['f32', 'bf16'] } }),
      form(['qlora'], { ...adapter, base: { enum: ['q8_0', 'q4_0'] } }),
    ],
  ),
  default: 'full',
  description:
    'What is trained: every weight (`full`), adapters over the base (`lora`), or over a quantized base (`qlora`); ' +
    'or an object with `kind`, `rank` (16), `alpha` (2 × rank), `targets` (the seven projections), ' +
    '`base` (f32; of qlora q8_0) and `save` (model).',
};

const checkpoints = {
  type: ['object', 'null'],
  additionalProperties: false,
  properties: {
    everySteps: { type: 'integer', minimum: 1 },
    everyTokens: { type: 'integer', minimum: 1 },
    keep: { type: 'integer', minimum: 1, maximum: 1000 },
  },
  if: { type: 'object' },
  then: { anyOf: [{ required: ['everySteps'] }, { required: ['everyTokens'] }] },
  default: null,
  description:
    'Checkpoints while training: `everySteps`, `everyTokens`, and how many to `keep` (2). null: the last alone.',
} as const;

/** What every trainer over a learner can be told, as JSON Schema properties with their defaults. */
export const recipeProperties = {
  epochs: { type: 'integer', minimum: 1, maximum: 10000, default: 3, description: 'Passes over the rows.' },
  maxSteps: {
    type: ['integer', 'null'],
    minimum: 1,
    default: null,
    description: 'Stop after so many optimiser steps; null: after the epochs.',
  },
  batchSize: { type: 'integer', minimum: 1, maximum: 65536, default: 16, description: 'Rows a step.' },
  microBatchTokens: {
    type: 'integer',
    minimum: 1,
    default: 8192,
    description: 'Most tokens that are computed at once; less needs less memory and gives the same result.',
  },
  learningRate,
  schedule,
  warmupSteps: {
    type: 'number',
    minimum: 0,
    if: { minimum: 1 },
    then: { multipleOf: 1 },
    default: 0,
    description: 'Steps, or a share of all steps where below 1; with warmup the first step has rate 0.',
  },
  weightDecay: {
    type: 'number',
    minimum: 0,
    maximum: 1,
    default: 0.01,
    description: 'Decoupled, not applied to norms and biases.',
  },
  maxGradNorm: {
    type: 'number',
    minimum: 0,
    default: 1,
    description: 'The gradient is clipped to this norm; 0: never.',
  },
  beta1: { type: 'number', minimum: 0, exclusiveMaximum: 1, default: 0.9, description: 'AdamW.' },
  beta2: { type: 'number', minimum: 0, exclusiveMaximum: 1, default: 0.999, description: 'AdamW.' },
  epsilon: { type: 'number', exclusiveMinimum: 0, default: 1e-8, description: 'AdamW.' },
  order: {
    enum: ['shuffle', 'file'],
    default: 'shuffle',
    description: 'A new order each epoch from the seed, or as given.',
  },
  maxTokens: {
    type: ['integer', 'null'],
    minimum: 2,
    default: null,
    description: 'Most tokens of a row; null: the context of the model.',
  },
  overlong: {
    enum: ['error', 'drop', 'left', 'window'],
    default: 'error',
    description:
      'What becomes of a longer row: an error, left out, the start of its prompt cut, or (documents) cut into windows.',
  },
  dtype: { enum: ['f32', 'bf16'], default: 'bf16', description: 'Number type of the saved weights.' },
  tuning,
  compute: {
    enum: ['f32', 'bf16'],
    default: 'f32',
    description: 'What matrix products are computed in; weights and sums stay f32.',
  },
  recompute: {
    type: 'boolean',
    default: false,
    description: 'Compute activations again in the backward pass: less memory, more time, the same result.',
  },
  checkpoints,
} as const;

/** Weight of replayed rows, for the objectives over tokens. */
export const replayProperties = {
  replayWeight: {
    type: 'number',
    minimum: 0,
    maximum: 100,
    default: 1,
    description: 'Weight of the replayed rows; counts where the job has `replay`.',
  },
} as const;

/** JSON Schema of a trainer: the recipe, its default learning rate, and what is its own. */
export function trainerOptions(
  defaultLearningRate: number,
  own: Readonly<Record<string, unknown>> = {},
): Readonly<Record<string, unknown>> {
  return {
    type: 'object',
    additionalProperties: false,
    properties: {
      ...recipeProperties,
      learningRate: { ...learningRate, default: defaultLearningRate },
      ...own,
    },
  };
}

/** Compiling takes far longer than checking, and a sweep checks many times. */
const compiled = new WeakMap<object, ReturnType<typeof compileSchema>>();

/**
 * Parameters that a person wrote, checked against the trainer's options, with the defaults filled in.
 * @throws CUPEL_FIELD_UNKNOWN, CUPEL_FIELD_INVALID
 */
export function readParameters<T>(
  options: Readonly<Record<string, unknown>>,
  parameters: Readonly<Record<string, unknown>>,
  where: string,
): T {
  const validate = compiled.get(options) ?? compileSchema(options, where);
  compiled.set(options, validate);
  checkAgainst(validate, parameters, where);
  const properties = options['properties'] as Readonly<Record<string, { readonly default?: unknown }>>;
  const defaults = Object.entries(properties).map(([name, property]) => [name, property.default] as const);
  return { ...Object.fromEntries(defaults.filter(([, value]) => value !== undefined)), ...parameters } as T;
}

type Kind<T> = T extends { readonly kind: infer K } ? K : never;
type Some<T> = { readonly [K in keyof T]?: T[K] };

/** The recipe as a person may write it: names in place of objects, and objects with gaps. */
export type RecipeParameters = Omit<Recipe, 'schedule' | 'tuning' | 'checkpoints'> & {
  readonly schedule: Schedule | Exclude<Kind<Schedule>, 'wsd'>;
  readonly tuning: Kind<Tuning> | ({ readonly kind: Kind<Tuning> } & Some<Omit<Adapters, 'kind'>>);
  readonly checkpoints: Some<NonNullable<Recipe['checkpoints']>> | null;
};
type Adapters = Exclude<Tuning, { readonly kind: 'full' }>;

/** The part of the parameters that the loop reads, with what was left open filled in. */
export function recipeOf(parameters: RecipeParameters): Recipe {
  const { epochs, maxSteps, batchSize, microBatchTokens, warmupSteps, weightDecay, maxGradNorm } = parameters;
  const { beta1, beta2, epsilon, order, maxTokens, overlong, dtype, compute, recompute } = parameters;
  return {
    epochs,
    maxSteps,
    batchSize,
    microBatchTokens,
    learningRate: parameters.learningRate,
    schedule: scheduleOf(parameters.schedule),
    warmupSteps,
    weightDecay,
    maxGradNorm,
    beta1,
    beta2,
    epsilon,
    order,
    maxTokens,
    overlong,
    dtype,
    tuning: tuningOf(parameters.tuning),
    compute,
    recompute,
    checkpoints: parameters.checkpoints === null ? null : { keep: 2, ...parameters.checkpoints },
  };
}

function scheduleOf(given: RecipeParameters['schedule']): Schedule {
  if (given === 'cosine-restarts' || given === 'polynomial' || given === 'inverse-sqrt') return { kind: given };
  return given;
}

/** Defaults: rank 16 and alpha 2 × rank; a frozen base in f32, or in q8_0, which loses least, where it is quantized. */
function tuningOf(given: RecipeParameters['tuning']): Tuning {
  const { kind, ...rest } = typeof given === 'string' ? { kind: given } : given;
  if (kind === 'full') return { kind };
  const rank = rest.rank ?? 16;
  const base = kind === 'lora' ? 'f32' : 'q8_0';
  return { kind, base, save: 'model', ...rest, rank, alpha: rest.alpha ?? 2 * rank };
}
