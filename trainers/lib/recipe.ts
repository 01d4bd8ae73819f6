import type { Recipe } from '../../src/contracts/index.ts';
import { checkAgainst, compileSchema } from '../../src/kit/index.ts';

/** What every trainer over a learner can be told, as JSON Schema properties with their defaults. */
export const recipeProperties = {
  epochs: { type: 'integer', minimum: 1, maximum: 10000, default: 3 },
  batchSize: { type: 'integer', minimum: 1, maximum: 65536, default: 16 },
  microBatchTokens: { type: 'integer', minimum: 1, default: 8192 },
  learningRate: { type: 'number', exclusiveMinimum: 0, maximum: 1 },
  schedule: { enum: ['constant', 'linear', 'cosine'], default: 'linear' },
  warmupSteps: { type: 'integer', minimum: 0, default: 0 },
  weightDecay: { type: 'number', minimum: 0, maximum: 1, default: 0.01 },
  maxGradNorm: { type: 'number', minimum: 0, default: 1 },
  beta1: { type: 'number', minimum: 0, exclusiveMaximum: 1, default: 0.9 },
  beta2: { type: 'number', minimum: 0, exclusiveMaximum: 1, default: 0.999 },
  epsilon: { type: 'number', exclusiveMinimum: 0, default: 1e-8 },
  order: { enum: ['shuffle', 'file'], default: 'shuffle' },
  overlong: { enum: ['error', 'drop'], default: 'error' },
  dtype: { enum: ['f32', 'bf16'], default: 'bf16' },
  replayWeight: { type: 'number', minimum: 0, maximum: 100, default: 1 },
} as const;

/** JSON Schema of a trainer: the recipe, its default learning rate, and what is its own. */
export function trainerOptions(
  learningRate: number,
  own: Readonly<Record<string, unknown>> = {},
): Readonly<Record<string, unknown>> {
  return {
    type: 'object',
    additionalProperties: false,
    properties: {
      ...recipeProperties,
      learningRate: { ...recipeProperties.learningRate, default: learningRate },
      ...own,
    },
  };
}

/**
 * Parameters that a person wrote, checked against the trainer's options, with the defaults filled in.
 * @throws CUPEL_FIELD_UNKNOWN, CUPEL_FIELD_INVALID
 */
export function readParameters<T>(
  options: Readonly<Record<string, unknown>>,
  parameters: Readonly<Record<string, unknown>>,
  where: string,
): T {
  checkAgainst(compileSchema(options, where), parameters, where);
  const properties = options['properties'] as Readonly<Record<string, { readonly default?: unknown }>>;
  const defaults = Object.entries(properties).map(([name, property]) => [name, property.default] as const);
  return { ...Object.fromEntries(defaults.filter(([, value]) => value !== undefined)), ...parameters } as T;
}

/** The part of the parameters that the loop reads. */
export function recipeOf(parameters: Recipe): Recipe {
  const { epochs, batchSize, microBatchTokens, learningRate, schedule, warmupSteps, weightDecay, maxGradNorm } =
    parameters;
  const { beta1, beta2, epsilon, order, overlong, dtype } = parameters;
  return {
    epochs,
    batchSize,
    microBatchTokens,
    learningRate,
    schedule,
    warmupSteps,
    weightDecay,
    maxGradNorm,
    beta1,
    beta2,
    epsilon,
    order,
    overlong,
    dtype,
  };
}
