import { checkAgainst, compileSchema } from '../../src/kit/index.ts';
import type { Rescale } from './dare.ts';
import { mergeErrors } from './errors.ts';

export type MergeMethod = 'linear' | 'slerp' | 'task-arithmetic' | 'ties' | 'dare-linear' | 'dare-ties' | 'adapter';

/** What a merge does, with every default filled in. */
export interface MergeParameters {
  readonly method: MergeMethod;
  readonly models: readonly { readonly path: string; readonly weight: number; readonly density: number }[];
  /** Of `adapter`: a PEFT folder. */
  readonly adapter: string | null;
  readonly t: number;
  readonly lambda: number;
  readonly normalize: boolean;
  readonly rescale: Rescale;
  /** Null: as the base is stored. */
  readonly dtype: 'f32' | 'bf16' | null;
}

const share = { type: 'number', exclusiveMinimum: 0, maximum: 1 } as const;

/** JSON Schema of what a person writes. */
export const mergeOptions = {
  type: 'object',
  additionalProperties: false,
  properties: {
    method: {
      enum: ['linear', 'slerp', 'task-arithmetic', 'ties', 'dare-linear', 'dare-ties', 'adapter'],
      default: 'linear',
      description: 'How the weights are combined.',
    },
    models: {
      type: 'array',
      maxItems: 64,
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['path'],
        properties: {
          path: { type: 'string', minLength: 1, description: 'Folder of a checkpoint.' },
          weight: { type: 'number', minimum: -100, maximum: 100, default: 1 },
          density: { ...share, description: 'Share of the differences to the base that is kept.' },
        },
      },
      description: 'The checkpoints that are merged, beside the base.',
    },
    adapter: { type: 'string', minLength: 1, description: 'adapter: a PEFT folder of a LoRA adapter.' },
    density: { ...share, default: 0.5, description: 'For every model that names none.' },
    t: { type: 'number', minimum: 0, maximum: 1, default: 0.5, description: 'slerp: 0 is the base, 1 the model.' },
    lambda: {
      type: 'number',
      minimum: -100,
      maximum: 100,
      default: 1,
      description: 'Factor of the merged difference.',
    },
    normalize: { type: 'boolean', description: 'Divide by the sum of weights. Default: for linear and ties alone.' },
    rescale: {
      enum: ['inverse-density', 'keep-l1', 'none'],
      default: 'inverse-density',
      description: "DARE: the paper's 1 / density, or mergekit's keeping of the sum of magnitudes.",
    },
    dtype: { enum: ['f32', 'bf16'], description: 'Number type that is written. Default: as the base is stored.' },
  },
} as const;

interface Written {
  readonly method?: MergeMethod;
  readonly models?: readonly { readonly path: string; readonly weight?: number; readonly density?: number }[];
  readonly adapter?: string;
  readonly density?: number;
  readonly t?: number;
  readonly lambda?: number;
  readonly normalize?: boolean;
  readonly rescale?: Rescale;
  readonly dtype?: 'f32' | 'bf16';
}

/** @throws CUPEL_FIELD_UNKNOWN, CUPEL_FIELD_INVALID, CUPEL_MERGE_INPUT */
export function readMergeParameters(parameters: Readonly<Record<string, unknown>>, where: string): MergeParameters {
  const written = checkAgainst<Written>(compileSchema(mergeOptions, where), parameters, where);
  const { method = 'linear', density = 0.5, models = [] } = written;
  const refused = (message: string): Error => mergeErrors.CUPEL_MERGE_INPUT({ message, where });
  if ((method === 'adapter') !== (written.adapter !== undefined) || (method === 'adapter' && models.length > 0)) {
    throw refused(
      method === 'adapter' ? 'method adapter takes an `adapter` and no models' : `${method} takes no adapter`,
    );
  }
  const idle = idleFields(method, written);
  if (idle.length > 0) throw refused(`${method} makes no use of ${idle.join(', ')}`);
  if (models.length === 0 && method !== 'adapter') throw refused(`${method} needs at least one model`);
  if (method === 'slerp' && models.length > 1)
    throw refused(`slerp takes one model beside the base, got ${models.length}`);
  const normalize = written.normalize ?? (method === 'linear' || method === 'ties');
  const weights = models.map(({ weight = 1 }) => weight);
  // TIES divides by the weights that took part in an element, whose sum is another one at each.
  if (normalize && method !== 'ties' && method !== 'dare-ties') {
    const sum = weights.reduce((total, weight) => total + weight, 0);
    if (Math.abs(sum) < 1e-8)
      throw refused(`the weights ${weights.join(', ')} have the sum ${sum}, which nothing can be divided by`);
  }
  return {
    method,
    models: models.map((model) => ({ path: model.path, weight: model.weight ?? 1, density: model.density ?? density })),
    adapter: written.adapter ?? null,
    t: written.t ?? 0.5,
    lambda: written.lambda ?? 1,
    normalize,
    rescale: written.rescale ?? 'inverse-density',
    dtype: written.dtype ?? null,
  };
}

/** What is written and would change nothing: whoever wrote it expects that it does. */
function idleFields(method: MergeMethod, written: Written): string[] {
  const dare = method === 'dare-linear' || method === 'dare-ties';
  const trims = dare || method === 'ties';
  const read: Readonly<Record<string, boolean>> = {
    t: method === 'slerp',
    lambda: trims || method === 'task-arithmetic',
    density: trims,
    rescale: dare,
    normalize: trims || method === 'linear' || method === 'task-arithmetic',
  };
  const fields = Object.keys(written).filter((name) => read[name] === false);
  const models = written.models ?? [];
  const weight = method === 'slerp' && models.some((model) => model.weight !== undefined && model.weight !== 1);
  const density = !trims && models.some((model) => model.density !== undefined);
  return [...fields, ...(weight ? ['the weights of models'] : []), ...(density ? ['the density of models'] : [])];
}

/** The parameters that the method reads, for the record. */
export function usedParameters(parameters: MergeParameters): Readonly<Record<string, unknown>> {
  const { method, models, t, lambda, normalize, rescale } = parameters;
  // As `mergeAdapter` of jobs records it, which also merges into bases that were held in fewer bits.
  if (method === 'adapter') return { base: 'f32' };
  if (method === 'slerp') return { t };
  const weights = models.map(({ weight }) => weight);
  if (method === 'linear') return { weights, normalize };
  if (method === 'task-arithmetic') return { weights, lambda, normalize };
  const densities = models.map(({ density }) => density);
  return { weights, densities, lambda, normalize, ...(method === 'ties' ? {} : { rescale }) };
}
