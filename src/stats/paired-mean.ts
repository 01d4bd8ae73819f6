import { studentQuantile, studentUpper } from './student-t.ts';
import type { Interval } from './wilson.ts';

/** Mean of paired differences with its plain and cluster-robust standard error. */
export interface PairedMean {
  readonly n: number;
  readonly mean: number;
  /** `zero-variance`: all differences are equal, no t statistic exists; `insufficient`: fewer than two pairs or clusters. */
  readonly status: 'ok' | 'zero-variance' | 'insufficient';
  readonly clusters: number;
  readonly standardError: number | null;
  /** Sandwich error without correction, sqrt(sum over clusters of (sum of residuals)^2) / n (Miller 2024, arXiv 2411.00640). */
  readonly clusterErrorPlain: number | null;
  /** The same times sqrt(G / (G - 1)): CR1 (Cameron, Miller 2015). Equals `standardError` when every pair is its own cluster. */
  readonly clusterError: number | null;
}

/**
 * @param differences candidate minus baseline, finite; @param cluster index of each difference's cluster, 0..G-1;
 * without it each pair is its own cluster.
 */
export function pairedMean(differences: readonly number[], cluster?: readonly number[]): PairedMean {
  const n = differences.length;
  const mean = n === 0 ? 0 : differences.reduce((sum, value) => sum + value, 0) / n;
  const sums = new Map<number, number>();
  for (const [i, value] of differences.entries()) {
    const key = cluster?.[i] ?? i;
    sums.set(key, (sums.get(key) ?? 0) + (value - mean));
  }
  const clusters = sums.size;
  const none = { n, mean, clusters, standardError: null, clusterErrorPlain: null, clusterError: null };
  if (n < 2 || clusters < 2) return { ...none, status: 'insufficient' };
  if (allEqual(differences))
    return { ...none, status: 'zero-variance', standardError: 0, clusterErrorPlain: 0, clusterError: 0 };
  const squares = differences.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const clusterErrorPlain = Math.sqrt([...sums.values()].reduce((sum, value) => sum + value * value, 0)) / n;
  return {
    n,
    mean,
    clusters,
    status: 'ok',
    standardError: Math.sqrt(squares / (n - 1) / n),
    clusterErrorPlain,
    clusterError: clusterErrorPlain * Math.sqrt(clusters / (clusters - 1)),
  };
}

/** Equal but for rounding: 0.3 - 0.2 and 0.2 - 0.1 must not make a tiny, very significant spread. */
export function allEqual(values: readonly number[]): boolean {
  const [first = 0] = values;
  return values.every((value) => Math.abs(value - first) <= 1e-12 * Math.max(1, Math.abs(first)));
}

/** One-sided p of H0: mean <= `bound`, by t with `df` degrees of freedom. */
export function meanGreaterP(mean: number, standardError: number, df: number, bound = 0): number {
  return studentUpper((mean - bound) / standardError, df);
}

/** Two-sided t interval at `level`, e.g. 0.95. */
export function meanInterval(mean: number, standardError: number, df: number, level: number): Interval {
  const half = studentQuantile((1 + level) / 2, df) * standardError;
  return { low: mean - half, high: mean + half };
}
