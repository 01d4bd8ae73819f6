import { Random } from '../kit/index.ts';
import type { Interval } from './wilson.ts';

/** Sums and sizes of clusters: all that resampling of whole clusters needs to know. */
export interface ClusterSums {
  readonly sums: Float64Array;
  readonly sizes: Float64Array;
}

/** @param cluster index 0..count-1 of each value's cluster. */
export function clusterSums(values: readonly number[], cluster: readonly number[], count: number): ClusterSums {
  const sums = new Float64Array(count);
  const sizes = new Float64Array(count);
  for (const [i, value] of values.entries()) {
    const key = cluster[i] as number;
    sums[key] = (sums[key] as number) + value;
    sizes[key] = (sizes[key] as number) + 1;
  }
  return { sums, sizes };
}

/** Row-major indices of `resamples` draws of `count` out of `count` with replacement; a pure function of its arguments. */
export function resampleIndices(count: number, resamples: number, seed: number): Uint32Array {
  const random = new Random(seed, `bootstrap/${count}`);
  const indices = new Uint32Array(count * resamples);
  for (let i = 0; i < indices.length; i++) indices[i] = random.integer(count);
  return indices;
}

/** Draws of one seed, made once for each number of clusters, so that every metric with as many clusters shares them. */
export class Resampler {
  readonly resamples: number;
  readonly #seed: number;
  readonly #known = new Map<number, Uint32Array>();
  #kept = 0;

  constructor(seed: number, resamples: number) {
    this.#seed = seed;
    this.resamples = resamples;
  }

  indices(count: number): Uint32Array {
    const known = this.#known.get(count);
    if (known) return known;
    const made = resampleIndices(count, this.resamples, this.#seed);
    this.#kept += made.length;
    if (this.#kept <= 8_000_000) this.#known.set(count, made);
    return made;
  }
}

let latest: { readonly seed: number; readonly resampler: Resampler } | undefined;

/** The resampler of a seed; the latest is kept, so that many small comparisons in a row draw once. Same values either way. */
export function resamplerFor(seed: number, resamples: number): Resampler {
  if (latest?.seed !== seed || latest.resampler.resamples !== resamples)
    latest = { seed, resampler: new Resampler(seed, resamples) };
  return latest.resampler;
}

/** Sorted means of the resampled clusters: sum over sum of sizes (the paired cluster bootstrap when sums are of differences). */
export function bootstrapMeans({ sums, sizes }: ClusterSums, indices: Uint32Array): Float64Array {
  const count = sums.length;
  const means = new Float64Array(indices.length / count);
  for (let resample = 0, at = 0; resample < means.length; resample++) {
    let [sum, size] = [0, 0];
    for (const end = at + count; at < end; at++) {
      const key = indices[at] as number;
      sum += sums[key] as number;
      size += sizes[key] as number;
    }
    means[resample] = sum / size;
  }
  return means.sort();
}

/** Quantile of sorted values with linear interpolation (Hyndman and Fan type 7, NumPy's default). */
export function sortedQuantile(sorted: ArrayLike<number>, probability: number): number {
  const position = (sorted.length - 1) * probability;
  const below = Math.floor(position);
  const low = sorted[below] as number;
  const high = sorted[Math.min(below + 1, sorted.length - 1)] as number;
  return low + (high - low) * (position - below);
}

/** Percentile interval (Efron 1979) of sorted bootstrap values. */
export function percentileInterval(sorted: ArrayLike<number>, level: number): Interval {
  return { low: sortedQuantile(sorted, (1 - level) / 2), high: sortedQuantile(sorted, (1 + level) / 2) };
}

/** One-sided p of H0: value <= bound, by inverting the percentile interval; never 0: (1 + hits) / (1 + resamples). */
export function bootstrapGreaterP(sorted: ArrayLike<number>, bound: number): number {
  const slack = 1e-12;
  let hits = 0;
  while (hits < sorted.length && (sorted[hits] as number) <= bound + slack) hits++;
  return (1 + hits) / (1 + sorted.length);
}

/** One-sided p of H0: value >= bound. */
export function bootstrapLessP(sorted: ArrayLike<number>, bound: number): number {
  const slack = 1e-12;
  let hits = 0;
  while (hits < sorted.length && (sorted[sorted.length - 1 - hits] as number) >= bound - slack) hits++;
  return (1 + hits) / (1 + sorted.length);
}
