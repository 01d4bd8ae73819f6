/**
 * Weighted sum of models, element by element: Σ wᵢ mᵢ, divided by Σ wᵢ with `normalize` (model soups: Wortsman et al.
 * 2022, arXiv:2203.05482).
 * @param models tensors of equal length; @param weights one a model. Sums are taken in f64 and rounded once.
 */
export function linear(
  models: readonly Float32Array[],
  { weights, normalize }: { readonly weights: readonly number[]; readonly normalize: boolean },
): Float32Array {
  const divisor = normalize ? weights.reduce((sum, weight) => sum + weight, 0) : 1;
  const merged = new Float32Array((models[0] as Float32Array).length);
  for (let index = 0; index < merged.length; index++) {
    let sum = 0;
    for (let model = 0; model < models.length; model++) {
      sum += (weights[model] as number) * ((models[model] as Float32Array)[index] as number);
    }
    merged[index] = sum / divisor;
  }
  return merged;
}
