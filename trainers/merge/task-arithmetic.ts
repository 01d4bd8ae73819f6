import { addDeltas, type DeltaOptions, whole } from './deltas.ts';

/**
 * base + λ Σ wᵢ (mᵢ − base): task vectors are added, or with a negative weight taken away (Ilharco et al. 2023,
 * arXiv:2212.04089).
 */
export function taskArithmetic(
  base: Float32Array,
  models: readonly Float32Array[],
  options: DeltaOptions,
): Float32Array {
  const contributions = models.map(() => whole);
  return addDeltas(base, models, contributions, { ...options, elect: false });
}
