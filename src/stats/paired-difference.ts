import {
  bootstrapGreaterP,
  bootstrapLessP,
  bootstrapMeans,
  clusterSums,
  percentileInterval,
  type Resampler,
} from './bootstrap.ts';
import { designEffect, numberClusters } from './clusters.ts';
import { mcNemar } from './mcnemar.ts';
import { normalQuantile, normalUpper } from './normal.ts';
import { meanGreaterP, meanInterval, pairedMean, type PairedMean } from './paired-mean.ts';
import { signFlipGreaterP } from './sign-flip.ts';
import { studentQuantile, studentUpper } from './student-t.ts';
import { tangoInterval, tangoStatistic, type PairedCounts } from './tango.ts';
import type { Interval } from './wilson.ts';

/** Pairs of finite values; `clusters` names each pair's cluster. */
export interface PairedSample {
  readonly baseline: readonly number[];
  readonly candidate: readonly number[];
  readonly clusters: readonly string[];
}

/** A one-sided answer and the name of the test that gave it. */
export interface Tested {
  readonly p: number;
  readonly test: string;
}

/** Difference candidate - baseline, ready to be asked about. */
export interface PairedDifference {
  readonly n: number;
  readonly clusters: number;
  readonly difference: number;
  /** Two-sided interval at the level asked for; null with fewer than two clusters. */
  readonly interval: Interval | null;
  /** Standard deviation of one pair's difference, inflated by clustering: for sample sizes. 0 where nothing varies. */
  readonly sd: number;
  readonly discordant: number;
  /** H0: difference <= bound. */
  greater(bound: number): Tested;
  /** H0: difference >= bound. */
  less(bound: number): Tested;
}

/**
 * Chooses the test by the data, never by the result:
 * - 0/1 values, every pair its own cluster: McNemar mid-p at bound 0, Tango's score test elsewhere;
 * - 0/1 values in clusters: the larger p of the paired cluster bootstrap and of Tango's score at the effective sample size
 *   (the bootstrap alone is too sure of itself with few discordant pairs, where it resamples nothing but zeros);
 * - other values: the larger p of the (cluster) bootstrap and the (cluster-robust) t test;
 * - other values whose differences are all equal: exact sign flips of clusters, never a standard error of zero.
 * Intervals are the union of the two methods' intervals.
 * @param level of the two-sided interval.
 */
export function pairedDifference(sample: PairedSample, level: number, resampler: Resampler): PairedDifference {
  const { baseline, candidate } = sample;
  const differences = candidate.map((value, i) => value - (baseline[i] as number));
  const { cluster, count } = numberClusters(sample.clusters);
  const binary = [...baseline, ...candidate].every((value) => value === 0 || value === 1);
  const discordant = differences.filter((value) => value !== 0).length;
  const summary = pairedMean(differences, cluster);
  const effect = binary ? designEffect(differences, cluster, count) : 1;
  const error = summary.clusterError ?? 0;
  const base = {
    n: differences.length,
    clusters: count,
    difference: summary.mean,
    discordant,
    sd: error * Math.sqrt(differences.length),
  };
  if (summary.status === 'insufficient') {
    const unknown = (): Tested => ({ p: 1, test: 'none' });
    return { ...base, interval: null, greater: unknown, less: unknown };
  }
  const counts = tableOf(differences, effect);
  if (binary && count === differences.length) return { ...base, ...unclusteredRate(counts, discordant, level) };
  const sums = clusterSums(differences, cluster, count);
  const means = bootstrapMeans(sums, resampler.indices(count));
  const name = count === differences.length ? 'bootstrap' : 'cluster-bootstrap';
  const percentile = percentileInterval(means, level);
  if (binary) {
    const score = tangoInterval(counts, studentQuantile((1 + level) / 2, count - 1));
    const scoreP = (bound: number, side: 1 | -1): number =>
      studentUpper(side * tangoStatistic(counts, bound), count - 1);
    return {
      ...base,
      interval: union(percentile, score),
      greater: (bound) =>
        named(
          discordant === 0 && bound === 0,
          bootstrapGreaterP(means, bound),
          scoreP(bound, 1),
          name,
          'tango-effective-n',
        ),
      less: (bound) =>
        named(
          discordant === 0 && bound === 0,
          bootstrapLessP(means, bound),
          scoreP(bound, -1),
          name,
          'tango-effective-n',
        ),
    };
  }
  return { ...base, ...meanDifference(summary, means, percentile, level, name) };
}

function unclusteredRate(
  counts: PairedCounts,
  discordant: number,
  level: number,
): Pick<PairedDifference, 'interval' | 'greater' | 'less'> {
  const exact = mcNemar(counts.candidateOnly, counts.baselineOnly);
  const ask = (bound: number, side: 1 | -1): Tested => {
    if (bound === 0)
      return { p: discordant === 0 ? 1 : side === 1 ? exact.midPGreater : exact.midPLess, test: 'mcnemar-midp' };
    return { p: normalUpper(side * tangoStatistic(counts, bound)), test: 'tango' };
  };
  return {
    interval: tangoInterval(counts, normalQuantile((1 + level) / 2)),
    greater: (bound) => ask(bound, 1),
    less: (bound) => ask(bound, -1),
  };
}

function meanDifference(
  summary: PairedMean,
  means: Float64Array,
  percentile: Interval,
  level: number,
  name: string,
): Pick<PairedDifference, 'interval' | 'greater' | 'less'> {
  const { mean, clusters } = summary;
  const error = summary.clusterError as number;
  const robust = name === 'bootstrap' ? 'paired-t' : 'cluster-t';
  if (summary.status === 'zero-variance') {
    // One value a cluster: within a cluster equal differences are not independent evidence.
    const flip = (distance: number): Tested => ({
      p: signFlipGreaterP(Array.from({ length: clusters }, () => (Math.abs(distance) < 1e-12 ? 0 : distance))),
      test: 'sign-flip',
    });
    return {
      interval: { low: mean, high: mean },
      greater: (bound) => flip(mean - bound),
      less: (bound) => flip(bound - mean),
    };
  }
  return {
    interval: union(percentile, meanInterval(mean, error, clusters - 1, level)),
    greater: (bound) =>
      named(false, bootstrapGreaterP(means, bound), meanGreaterP(mean, error, clusters - 1, bound), name, robust),
    less: (bound) =>
      named(false, bootstrapLessP(means, bound), meanGreaterP(-mean, error, clusters - 1, -bound), name, robust),
  };
}

/** The more careful of two tests; the name says both, so that it does not depend on the numbers. */
function named(equal: boolean, first: number, second: number, firstName: string, secondName: string): Tested {
  return { p: equal ? 1 : Math.max(first, second), test: `${firstName}+${secondName}` };
}

function union(a: Interval, b: Interval): Interval {
  return { low: Math.min(a.low, b.low), high: Math.max(a.high, b.high) };
}

function tableOf(differences: readonly number[], effect: number): PairedCounts {
  return {
    n: differences.length / effect,
    candidateOnly: differences.filter((value) => value > 0).length / effect,
    baselineOnly: differences.filter((value) => value < 0).length / effect,
  };
}
