import type { Estimate, LengthControlReport } from '../contracts/index.ts';
import { codePointLength, lengthControlledWinRate, type Interval, type LengthPoint } from '../stats/index.ts';

/** One comparison of two answers as a judge gave it. */
export interface JudgedPair {
  readonly cluster: string;
  readonly baselineText: string;
  readonly candidateText: string;
  /** Degree in [0, 1] that the candidate is better, candidate shown first and candidate shown second; null = no verdict. */
  readonly candidateFirst: number | null;
  readonly candidateSecond: number | null;
}

/**
 * Win rate of the candidate, raw and at equal length, both orders averaged. A pair with a verdict in one order only is
 * unscored. `inconsistentOrders` counts pairs whose two orders name different winners.
 */
export function lengthControlReport(
  pairs: readonly JudgedPair[],
  options: { readonly judge: string; readonly calibrated: boolean; readonly seed: number; readonly resamples: number },
): LengthControlReport {
  const points: LengthPoint[] = [];
  let inconsistentOrders = 0;
  for (const { candidateFirst, candidateSecond, cluster, candidateText, baselineText } of pairs) {
    if (candidateFirst === null || candidateSecond === null) continue;
    if ((candidateFirst - 0.5) * (candidateSecond - 0.5) < 0) inconsistentOrders++;
    const lengthDifference = codePointLength(candidateText) - codePointLength(baselineText);
    points.push({ preference: (candidateFirst + candidateSecond) / 2, lengthDifference, cluster });
  }
  const fitted = lengthControlledWinRate(points, { seed: options.seed, resamples: options.resamples, level: 0.95 });
  const estimate = (value: number | null, interval: Interval | null): Estimate => ({
    value,
    low: interval?.low ?? null,
    high: interval?.high ?? null,
    n: fitted.n,
    clusters: fitted.clusters,
    errors: 0,
    unscored: pairs.length - points.length,
  });
  return {
    judge: options.judge,
    calibrated: options.calibrated,
    winRate: estimate(fitted.winRate, fitted.winRateInterval),
    lengthControlled: estimate(fitted.lengthControlled, fitted.lengthControlledInterval),
    lengthCoefficient: fitted.lengthCoefficient,
    inconsistentOrders,
    points: points.map(({ lengthDifference, preference }) => ({ lengthDifference, preference })),
  };
}
