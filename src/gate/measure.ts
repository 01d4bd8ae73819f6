import type { PairedMetric, Policy } from '../contracts/index.ts';
import { numberClusters, pairedDifference, rateInterval, resamplerFor, type PairedDifference } from '../stats/index.ts';
import { mean } from './wording.ts';

/** Fewest cases, and fewest clusters where cases are clustered, that a rule may rest on. */
export const minimumCases = 10;

/** A metric of the policy with its difference, turned so that positive is better whatever the direction. */
export interface Measured {
  readonly metric: PairedMetric;
  readonly baseline: number;
  readonly candidate: number;
  readonly difference: PairedDifference;
}

/** Intervals are at level 1 - 2 alpha: they leave out a bound exactly where the one-sided test at alpha does, or nearly. */
export function measure(metric: PairedMetric, policy: Policy): Measured {
  const { pairs } = metric;
  const before = pairs.map((pair) => pair.baseline);
  const after = pairs.map((pair) => pair.candidate);
  const [baseline, candidate] = metric.direction === 'higher' ? [before, after] : [after, before];
  const sample = { baseline, candidate, clusters: clustersOf(metric, policy) };
  const { seed, resamples } = policy.bootstrap;
  return {
    metric,
    baseline: mean(pairs, 'baseline'),
    candidate: mean(pairs, 'candidate'),
    difference: pairedDifference(sample, 1 - 2 * policy.alpha, resamplerFor(seed, resamples)),
  };
}

/** Cluster names of the pairs as the policy sees them. */
export function clustersOf(metric: PairedMetric, policy: Policy): string[] {
  return metric.pairs.map((pair) => (policy.cluster === 'case' ? pair.case : pair.cluster));
}

/** Why a metric cannot carry a rule; null when it can. */
export function validityProblem(path: string, metric: PairedMetric | undefined, policy: Policy): string | null {
  if (metric === undefined) return `${path} was not measured in both runs`;
  const { pairs, kind, missing } = metric;
  if (new Set(pairs.map((pair) => pair.case)).size < pairs.length) return `${path} has a case twice`;
  for (const pair of pairs) {
    for (const value of [pair.baseline, pair.candidate]) {
      if (!Number.isFinite(value) || (kind === 'rate' && (value < 0 || value > 1)))
        return `${path} has the value ${value} in case ${pair.case}, not ${kind === 'rate' ? 'a share in [0, 1]' : 'a finite number'}`;
    }
  }
  const cases = Math.max(metric.cases, pairs.length);
  for (const side of ['baseline', 'candidate'] as const) {
    if (missing[side] > policy.missing.max * cases) {
      return `${missing[side]} of ${cases} cases of ${path} are missing in the ${side} run (${((100 * missing[side]) / cases).toFixed(1)} %, more than ${100 * policy.missing.max} %)`;
    }
  }
  if (pairs.length < minimumCases) return `${path} has ${pairs.length} cases, fewer than ${minimumCases}`;
  const clusters = new Set(clustersOf(metric, policy)).size;
  if (clusters < minimumCases) return `${path} has ${clusters} independent clusters, fewer than ${minimumCases}`;
  return null;
}

/** How the candidate's own value stands to an absolute bound. */
export interface BoundResult {
  readonly outcome: 'pass' | 'fail' | 'unclear';
  /** Interval of the candidate's value at level 1 - 2 alpha; null where all values are equal. */
  readonly low: number | null;
  readonly high: number | null;
}

/** A floor (higher is better) or ceiling (lower is better) for the candidate's value, each side at alpha. */
export function testBound(metric: PairedMetric, bound: number, policy: Policy): BoundResult {
  const values = metric.pairs.map((pair) => pair.candidate);
  const names = clustersOf(metric, policy);
  const sign = metric.direction === 'higher' ? 1 : -1;
  if (metric.kind === 'rate') {
    const { cluster, count } = numberClusters(names);
    const { low, high } = rateInterval(values, cluster, count, 1 - 2 * policy.alpha);
    const [holds, broken] = sign === 1 ? [low >= bound, high < bound] : [high <= bound, low > bound];
    return { outcome: holds ? 'pass' : broken ? 'fail' : 'unclear', low, high };
  }
  const bounds = values.map(() => bound);
  const { seed, resamples } = policy.bootstrap;
  const distance = pairedDifference(
    { baseline: bounds, candidate: values, clusters: names },
    1 - 2 * policy.alpha,
    resamplerFor(seed, resamples),
  );
  const above = distance.greater(0).p <= policy.alpha;
  const below = distance.less(0).p <= policy.alpha;
  const [holds, broken] = sign === 1 ? [above, below] : [below, above];
  const interval = distance.interval;
  return {
    outcome: holds ? 'pass' : broken ? 'fail' : 'unclear',
    low: interval && bound + interval.low,
    high: interval && bound + interval.high,
  };
}
