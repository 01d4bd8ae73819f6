import { dareLinear, dareMask, dareTies } from './dare.ts';
import { linear } from './linear.ts';
import type { MergeParameters } from './parameters.ts';
import { slerp } from './slerp.ts';
import { taskArithmetic } from './task-arithmetic.ts';
import { ties } from './ties.ts';

/** One tensor of every checkpoint. The base is null where the method reads none. */
export interface TensorSet {
  readonly name: string;
  readonly base: Float32Array | null;
  readonly models: readonly Float32Array[];
}

/** Merges one tensor. The mask of DARE depends on seed, tensor name and place of the model alone. */
export function combine({ name, base, models }: TensorSet, parameters: MergeParameters, seed: number): Float32Array {
  const { method, t, lambda, normalize, rescale } = parameters;
  const weights = parameters.models.map(({ weight }) => weight);
  if (method === 'linear' || base === null) return linear(models, { weights, normalize });
  if (method === 'slerp') return slerp(base, models[0] as Float32Array, t);
  if (method === 'task-arithmetic') return taskArithmetic(base, models, { weights, lambda, normalize });
  const densities = parameters.models.map(({ density }) => density);
  if (method === 'ties') return ties(base, models, { weights, lambda, normalize, densities });
  const masks = densities.map((density, index) => dareMask(base.length, density, seed, `${index} ${name}`));
  const options = { weights, lambda, normalize, densities, rescale, masks };
  return method === 'dare-linear' ? dareLinear(base, models, options) : dareTies(base, models, options);
}
