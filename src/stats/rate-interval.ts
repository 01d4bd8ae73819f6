import { designEffect } from './clusters.ts';
import { normalQuantile } from './normal.ts';
import { studentQuantile } from './student-t.ts';
import { wilsonInterval, type Interval } from './wilson.ts';

/**
 * Interval of a rate whose cases come in clusters: Wilson's interval at the effective sample size n / design effect, with
 * the t quantile of G - 1 degrees of freedom (effective sample size as in Korn, Graubard 1998). Chosen over bootstrap
 * percentiles because those collapse to a point at rates of 0 and 1. Without repeated clusters it is plain Wilson.
 * @param values 0, 1, or a mean over epochs; @param level two-sided, e.g. 0.95.
 */
export function rateInterval(
  values: readonly number[],
  cluster: readonly number[],
  count: number,
  level: number,
): Interval {
  const n = values.length;
  const rate = values.reduce((sum, value) => sum + value, 0) / n;
  if (count >= n) return wilsonInterval(rate, n, normalQuantile((1 + level) / 2));
  if (count < 2) return { low: 0, high: 1 };
  return wilsonInterval(rate, n / designEffect(values, cluster, count), studentQuantile((1 + level) / 2, count - 1));
}
