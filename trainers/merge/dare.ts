import { Random } from '../../src/kit/index.ts';
import { addDeltas, type Contribution, type DeltaOptions } from './deltas.ts';

/**
 * What makes up for dropped differences. `inverse-density`: 1 / density, as in the paper, which keeps the expectation.
 * `keep-l1`: the sum of magnitudes stays what it was, as mergekit 0.1.5 does. `none`: nothing.
 */
export type Rescale = 'inverse-density' | 'keep-l1' | 'none';

export interface DareOptions extends DeltaOptions {
  readonly densities: readonly number[];
  readonly rescale: Rescale;
  /** 1 where a model's difference is kept, one list a model. */
  readonly masks: readonly Uint8Array[];
}

/** DARE (Yu et al. 2023, arXiv:2311.03099): task arithmetic of randomly dropped and rescaled differences. */
export function dareLinear(base: Float32Array, models: readonly Float32Array[], options: DareOptions): Float32Array {
  return addDeltas(base, models, dropped(base, models, options), { ...options, elect: false });
}

/** DARE's dropping with the sign election of TIES (arXiv:2306.01708) in place of trimming by magnitude. */
export function dareTies(base: Float32Array, models: readonly Float32Array[], options: DareOptions): Float32Array {
  return addDeltas(base, models, dropped(base, models, options), { ...options, elect: true });
}

/** Each element is kept with probability `density`; a pure function of seed, name and position. */
export function dareMask(length: number, density: number, seed: number, name: string): Uint8Array {
  const random = new Random(seed, `dare ${name}`);
  const mask = new Uint8Array(length);
  for (let index = 0; index < length; index++) mask[index] = random.uint32() < density * 2 ** 32 ? 1 : 0;
  return mask;
}

function dropped(
  base: Float32Array,
  models: readonly Float32Array[],
  { densities, rescale, masks }: DareOptions,
): Contribution[] {
  return models.map((model, index) => {
    const [kept, density] = [masks[index] as Uint8Array, densities[index] as number];
    if (rescale === 'none') return { kept, scale: 1 };
    if (rescale === 'inverse-density') return { kept, scale: 1 / density };
    let [all, left] = [0, 0];
    for (let element = 0; element < base.length; element++) {
      const magnitude = Math.abs(Math.fround((model[element] as number) - (base[element] as number)));
      all += magnitude;
      if (kept[element] === 1) left += magnitude;
    }
    return { kept, scale: left === 0 ? 1 : all / left };
  });
}
