/** A closed interval. */
export interface Interval {
  readonly low: number;
  readonly high: number;
}

/**
 * Wilson score interval of a rate (Wilson 1927). `n` may be an effective, fractional number.
 * @param rate share of successes in [0, 1]; @param quantile the two-sided normal (or t) quantile, e.g. 1.96.
 */
export function wilsonInterval(rate: number, n: number, quantile: number): Interval {
  const square = quantile * quantile;
  const centre = (rate + square / (2 * n)) / (1 + square / n);
  const half = (quantile * Math.sqrt((rate * (1 - rate)) / n + square / (4 * n * n))) / (1 + square / n);
  return { low: rate === 0 ? 0 : Math.max(0, centre - half), high: rate === 1 ? 1 : Math.min(1, centre + half) };
}
