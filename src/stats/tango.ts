import type { Interval } from './wilson.ts';

/** Counts of a paired two-by-two table; fractional counts (effective sample sizes) are allowed. */
export interface PairedCounts {
  readonly n: number;
  readonly candidateOnly: number;
  readonly baselineOnly: number;
}

/**
 * Score statistic of H0: rate(candidate) - rate(baseline) = `difference`, with the nuisance rate at its
 * constrained maximum (Tango 1998, Statistics in Medicine 17:891). Positive when the data lie above.
 */
export function tangoStatistic(counts: PairedCounts, difference: number): number {
  const { n, candidateOnly, baselineOnly } = counts;
  const b = -candidateOnly - baselineOnly + (2 * n - candidateOnly + baselineOnly) * difference;
  const c = -baselineOnly * difference * (1 - difference);
  const root = Math.sqrt(Math.max(0, b * b - 8 * n * c));
  // The two forms of the root are equal; the one without cancellation keeps the digits.
  const nuisance = b <= 0 ? (root - b) / (4 * n) : (-2 * c) / (root + b);
  const variance = n * (2 * nuisance + difference * (1 - difference));
  const distance = candidateOnly - baselineOnly - n * difference;
  if (variance > 0) return distance / Math.sqrt(variance);
  return distance === 0 ? 0 : distance > 0 ? Infinity : -Infinity;
}

/** Score interval of the difference of paired rates; `quantile` is two-sided, e.g. 1.96 for 95 %. Bisection to 1e-13. */
export function tangoInterval(counts: PairedCounts, quantile: number): Interval {
  const estimate = (counts.candidateOnly - counts.baselineOnly) / counts.n;
  return {
    low: estimate <= -1 ? -1 : crossing(counts, -1, estimate, quantile),
    high: estimate >= 1 ? 1 : crossing(counts, estimate, 1, -quantile),
  };
}

/** Where the falling statistic takes the value `target`. */
function crossing(counts: PairedCounts, from: number, to: number, target: number): number {
  let [low, high] = [from, to];
  for (let step = 0; step < 60 && high - low > 1e-14; step++) {
    const middle = (low + high) / 2;
    if (tangoStatistic(counts, middle) > target) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}
