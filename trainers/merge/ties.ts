import { addDeltas, type DeltaOptions } from './deltas.ts';

/**
 * TIES (Yadav et al. 2023, arXiv:2306.01708): of each difference to the base the largest are kept, then each element
 * elects a sign, then what agrees with it is averaged (`normalize`) or summed.
 * @param densities share of elements that a model keeps, by magnitude, above 0 to 1; at least one element.
 */
export function ties(
  base: Float32Array,
  models: readonly Float32Array[],
  options: DeltaOptions & { readonly densities: readonly number[] },
): Float32Array {
  const contributions = models.map((model, index) => ({
    kept: largest(base, model, options.densities[index] as number),
    scale: 1,
  }));
  return addDeltas(base, models, contributions, { ...options, elect: true });
}

/** Marks the max(1, ⌊density · n⌋) differences of greatest magnitude; of equal ones those that come first. */
function largest(base: Float32Array, model: Float32Array, density: number): Uint8Array | null {
  const count = Math.max(1, Math.floor(density * base.length));
  if (count >= base.length) return null;
  const magnitudes = base.map((value, index) => Math.abs(Math.fround((model[index] as number) - value)));
  const threshold = magnitudes.slice().sort()[base.length - count] as number;
  const kept = new Uint8Array(base.length);
  let room = count;
  for (let index = 0; index < kept.length; index++) {
    if ((magnitudes[index] as number) <= threshold) continue;
    kept[index] = 1;
    room--;
  }
  for (let index = 0; index < kept.length && room > 0; index++) {
    if (magnitudes[index] !== threshold) continue;
    kept[index] = 1;
    room--;
  }
  return kept;
}
