import type { PairedMetric, Policy } from '../contracts/index.ts';
import { measure } from './measure.ts';

/** One metric of two checkpoints, compared case by case. */
export interface Difference {
  readonly metric: string;
  readonly kind: PairedMetric['kind'];
  readonly baseline: number;
  readonly candidate: number;
  /** candidate - baseline, positive is better whatever the direction, with its interval at level 1 - 2 alpha. */
  readonly difference: number;
  readonly low: number | null;
  readonly high: number | null;
  /** One-sided p-values of "better" and "worse", each uncorrected. */
  readonly pBetter: number | null;
  readonly pWorse: number | null;
  readonly n: number;
  readonly clusters: number;
}

/** Differences of all metrics that were paired, without a decision: for people who look, not for the gate. */
export function differences(comparisons: readonly PairedMetric[], policy: Policy): readonly Difference[] {
  return comparisons
    .filter(({ pairs }) => pairs.length > 1)
    .map((comparison) => {
      const { metric, baseline, candidate, difference } = measure(comparison, policy);
      return {
        metric: metric.metric,
        kind: metric.kind,
        baseline,
        candidate,
        difference: difference.difference,
        low: difference.interval?.low ?? null,
        high: difference.interval?.high ?? null,
        pBetter: difference.greater(0).p,
        pWorse: difference.less(0).p,
        n: difference.n,
        clusters: difference.clusters,
      };
    });
}
