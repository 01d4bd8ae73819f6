/** What a merge of differences to a base is told; lists have one entry a model. */
export interface DeltaOptions {
  readonly weights: readonly number[];
  /** Factor of the merged difference. */
  readonly lambda: number;
  /** Divide by the sum of the weights that took part in an element. */
  readonly normalize: boolean;
}

export interface Contribution {
  /** Which elements take part: 1 or 0. Null: all. */
  readonly kept: Uint8Array | null;
  /** Factor of the difference, for what was left out. */
  readonly scale: number;
}

/** Elements that are worked on at once: the sums of a block stay in the cache. */
const block = 1 << 14;

/** Below this a sum of weights is taken as zero, and the difference is not divided. */
const smallestWeight = 1e-8;

/**
 * base + λ Σ wᵢ sᵢ (mᵢ − base) over the kept elements. With `elect`, an element takes only the differences whose sign is
 * that of their weighted sum; a sum of zero counts as positive, a difference of zero has no sign.
 * Differences are rounded to f32, as subtracting stored tensors gives; sums are taken in f64.
 */
export function addDeltas(
  base: Float32Array,
  models: readonly Float32Array[],
  contributions: readonly Contribution[],
  options: DeltaOptions & { readonly elect: boolean },
): Float32Array {
  const { weights, lambda, normalize, elect } = options;
  const merged = new Float32Array(base.length);
  const [total, agreed, divisor] = [new Float64Array(block), new Float64Array(block), new Float64Array(block)];
  const weighted = models.map(() => new Float64Array(block));
  const all = weights.reduce((sum, weight) => sum + weight, 0);
  for (let start = 0; start < base.length; start += block) {
    const size = Math.min(block, base.length - start);
    total.fill(0);
    for (const [index, model] of models.entries()) {
      const { kept, scale } = contributions[index] as Contribution;
      const [factor, own] = [scale * (weights[index] as number), weighted[index] as Float64Array];
      for (let at = 0; at < size; at++) {
        const taken = kept === null || kept[start + at] === 1;
        const value = taken ? Math.fround((model[start + at] as number) - (base[start + at] as number)) * factor : 0;
        own[at] = value;
        total[at] = (total[at] as number) + value;
      }
    }
    if (elect) {
      agreed.fill(0);
      divisor.fill(0);
      for (const [index, own] of weighted.entries()) {
        const weight = weights[index] as number;
        for (let at = 0; at < size; at++) {
          const value = own[at] as number;
          if (value === 0 || value > 0 !== (total[at] as number) >= 0) continue;
          agreed[at] = (agreed[at] as number) + value;
          divisor[at] = (divisor[at] as number) + weight;
        }
      }
    } else divisor.fill(all);
    const sums = elect ? agreed : total;
    for (let at = 0; at < size; at++) {
      const by = normalize && Math.abs(divisor[at] as number) >= smallestWeight ? (divisor[at] as number) : 1;
      merged[start + at] = (base[start + at] as number) + (lambda * (sums[at] as number)) / by;
    }
  }
  return merged;
}

export const whole: Contribution = { kept: null, scale: 1 };
