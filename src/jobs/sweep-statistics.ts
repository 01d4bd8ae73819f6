import type { MetricDefinition, Run } from '../contracts/index.ts';
import { estimate, pairMetric } from '../gate/index.ts';
import { holm, type Interval, meanInterval, pairedDifference, resamplerFor, studentUpper } from '../stats/index.ts';

/** Runs of one candidate on one suite and split, a run a seed. */
export interface SeedRuns {
  readonly name: string;
  readonly runs: readonly Run[];
  /** False for a checkpoint that is not trained here: it has no seed to vary. */
  readonly seeded: boolean;
}

export type SweepDecision =
  | 'reference'
  | 'better'
  | 'worse'
  | 'no difference shown'
  | 'one seed: not decided'
  | 'too few cases'
  | 'nothing to compare with';

/** One candidate beside the reference. Positive differences are better whatever the direction of the metric. */
export interface ComparedCandidate {
  readonly name: string;
  /** Value of the metric, a seed each. */
  readonly values: readonly (number | null)[];
  readonly mean: number | null;
  /** Standard deviation between seeds; null with fewer than two. */
  readonly spread: number | null;
  readonly difference: number | null;
  /** Includes the variance between cases and that between seeds. */
  readonly low: number | null;
  readonly high: number | null;
  /** Two-sided. */
  readonly pValue: number | null;
  /** After Holm's correction over all candidates. */
  readonly adjustedP: number | null;
  readonly decision: SweepDecision;
  readonly cases: number;
  readonly clusters: number;
}

export interface SweepComparisonOptions {
  readonly alpha: number;
  readonly resamples: number;
  readonly seed: number;
}

/** As in the gate: fewer independent cases carry no decision. */
const minimumClusters = 10;

/**
 * Compares candidates with a reference so that a lucky seed is not a win. Cases are paired, their values averaged over
 * the seeds of each side and clustered as in the gate; to the variance of their differences that between seeds is added,
 * pooled over all candidates: error² = case error² + s² (1/seeds + 1/seeds of the reference), with
 * Welch-Satterthwaite's degrees of freedom. The p value is the larger of this t test's and of the gate's own test of the
 * cases, the interval the union of both; p values of all candidates are corrected together by Holm.
 * @param reference null: there is none; then values are reported and nothing is decided
 */
export function compareSeeds(
  suite: string,
  metric: MetricDefinition,
  reference: SeedRuns | null,
  candidates: readonly SeedRuns[],
  options: SweepComparisonOptions,
): readonly ComparedCandidate[] {
  const groups = [...(reference === null ? [] : [reference]), ...candidates];
  const pooled = pooledVariance(groups.map(({ runs }) => valuesOf(metric, runs)));
  const compared = candidates.map((candidate) => {
    const summary = summaryOf(metric, candidate);
    if (reference === null) return { summary, p: null, decided: 'nothing to compare with' as const, against: null };
    return { summary, ...compareOne(suite, metric, reference, candidate, pooled, options) };
  });
  const family = compared.flatMap(({ p }, index) => (p === null ? [] : [{ p, index }]));
  const adjusted = holm(family.map(({ p }) => p));
  const corrected = new Map(family.map(({ index }, rank) => [index, adjusted[rank] as number]));
  const rows = compared.map(({ summary, p, decided, against }, index): ComparedCandidate => {
    const adjustedP = corrected.get(index) ?? null;
    const difference = against?.difference ?? null;
    const shown = adjustedP !== null && adjustedP <= options.alpha && difference !== null;
    return {
      ...summary,
      difference,
      low: against?.interval?.low ?? null,
      high: against?.interval?.high ?? null,
      pValue: p,
      adjustedP,
      decision: decided ?? (shown ? (difference > 0 ? 'better' : 'worse') : 'no difference shown'),
      cases: against?.n ?? 0,
      clusters: against?.clusters ?? 0,
    };
  });
  if (reference === null) return rows;
  const nothing = { difference: null, low: null, high: null, pValue: null, adjustedP: null, cases: 0, clusters: 0 };
  return [{ ...summaryOf(metric, reference), ...nothing, decision: 'reference' }, ...rows];
}

interface Against {
  readonly difference: number;
  readonly interval: Interval | null;
  readonly n: number;
  readonly clusters: number;
}

function compareOne(
  suite: string,
  metric: MetricDefinition,
  reference: SeedRuns,
  candidate: SeedRuns,
  pooled: { readonly variance: number; readonly degrees: number },
  { alpha, resamples, seed }: SweepComparisonOptions,
): { readonly p: number | null; readonly decided: SweepDecision | null; readonly against: Against } {
  const { pairs } = pairMetric(suite, metric, merged(reference.runs), merged(candidate.runs));
  const [left, right] = [pairs.map(({ baseline }) => baseline), pairs.map((pair) => pair.candidate)];
  const [baseline, after] = metric.direction === 'higher' ? [left, right] : [right, left];
  const level = 1 - alpha;
  const cases = pairedDifference(
    { baseline, candidate: after, clusters: pairs.map(({ cluster }) => cluster) },
    level,
    resamplerFor(seed, resamples),
  );
  const { n, clusters, difference } = cases;
  const against = { difference, interval: cases.interval, n, clusters };
  if (clusters < minimumClusters) return { p: null, decided: 'too few cases', against };
  if (pooled.degrees === 0) return { p: null, decided: 'one seed: not decided', against };
  const caseVariance = cases.sd ** 2 / n;
  const seedVariance =
    pooled.variance * (1 / candidate.runs.length + (reference.seeded ? 1 / reference.runs.length : 0));
  const variance = caseVariance + seedVariance;
  const caseP = Math.min(1, 2 * Math.min(cases.greater(0).p, cases.less(0).p));
  if (variance === 0) return { p: caseP, decided: null, against };
  const degrees = variance ** 2 / (caseVariance ** 2 / (clusters - 1) + seedVariance ** 2 / pooled.degrees);
  const error = Math.sqrt(variance);
  const p = Math.max(caseP, Math.min(1, 2 * studentUpper(Math.abs(difference) / error, degrees)));
  const interval = union(cases.interval, meanInterval(difference, error, degrees, level));
  return { p, decided: null, against: { ...against, interval } };
}

/** Variance between seeds, pooled over candidates that have several. */
function pooledVariance(groups: readonly (readonly (number | null)[])[]): { variance: number; degrees: number } {
  let [squares, degrees] = [0, 0];
  for (const values of groups) {
    const known = values.filter((value) => value !== null);
    if (known.length < 2) continue;
    const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
    squares += known.reduce((sum, value) => sum + (value - mean) ** 2, 0);
    degrees += known.length - 1;
  }
  return { variance: degrees === 0 ? 0 : squares / degrees, degrees };
}

function summaryOf(
  metric: MetricDefinition,
  { name, runs }: SeedRuns,
): Pick<ComparedCandidate, 'name' | 'values' | 'mean' | 'spread'> {
  const values = valuesOf(metric, runs);
  const known = values.filter((value) => value !== null);
  const { variance, degrees } = pooledVariance([values]);
  return {
    name,
    values,
    mean: known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0) / known.length,
    spread: degrees === 0 ? null : Math.sqrt(variance),
  };
}

function valuesOf(metric: MetricDefinition, runs: readonly Run[]): (number | null)[] {
  return runs.map(({ rows }) => estimate(metric, rows).value);
}

/** Seeds as epochs of one run: the gate averages those of each case. */
function merged(runs: readonly Run[]): Run {
  const [first] = runs as readonly [Run, ...Run[]];
  return { ...first, rows: runs.flatMap(({ rows }, epoch) => rows.map((row) => ({ ...row, epoch }))) };
}

function union(a: Interval | null, b: Interval): Interval {
  return a === null ? b : { low: Math.min(a.low, b.low), high: Math.max(a.high, b.high) };
}
