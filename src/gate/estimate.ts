import type { Estimate, MetricDefinition, Row } from '../contracts/index.ts';
import { meanInterval, numberClusters, pairedMean, rateInterval, type Interval } from '../stats/index.ts';
import { appliesToAll, caseValues } from './case-values.ts';

/**
 * Value of a metric over the rows of one run, with its interval: Wilson's for rates (at the effective sample size where
 * cases share clusters), a cluster-robust t interval for means. Cases without output are failures of a rate where the
 * metric applies to every case, and otherwise only counted in `errors`; unscored cases are only counted.
 * @param options.level two-sided, default 0.95; @param options.cluster as in the policy, default `cluster`.
 */
export function estimate(
  metric: MetricDefinition,
  rows: readonly Row[],
  options: { readonly level?: number; readonly cluster?: 'cluster' | 'case' } = {},
): Estimate {
  const all = [...caseValues(metric, rows).values()].sort((a, b) => (a.digest < b.digest ? -1 : 1));
  const failuresCount = metric.kind === 'rate' && appliesToAll(all);
  const counted = all.filter((value) => value.state === 'scored' || (failuresCount && value.state === 'error'));
  const { cluster, count } = numberClusters(
    counted.map((value) => (options.cluster === 'case' ? value.digest : value.cluster)),
  );
  const numbers = counted.map((value) => value.value);
  const interval = intervalOf(metric, numbers, cluster, count, options.level ?? 0.95);
  return {
    value: numbers.length === 0 ? null : numbers.reduce((sum, value) => sum + value, 0) / numbers.length,
    low: interval?.low ?? null,
    high: interval?.high ?? null,
    n: numbers.length,
    clusters: count,
    errors: new Set(rows.filter((row) => row.status === 'error').map((row) => row.caseDigest)).size,
    unscored: all.filter((value) => value.state === 'unscored').length,
  };
}

function intervalOf(
  metric: MetricDefinition,
  values: readonly number[],
  cluster: readonly number[],
  count: number,
  level: number,
): Interval | null {
  if (values.length === 0) return null;
  if (metric.kind === 'rate') return rateInterval(values, cluster, count, level);
  const summary = pairedMean(values, cluster);
  if (summary.status !== 'ok' || summary.clusterError === null) return null;
  return meanInterval(summary.mean, summary.clusterError, count - 1, level);
}
