import type { GuardRule, PairedMetric, Policy, RuleResult } from '../contracts/index.ts';
import { designEffect, numberClusters } from '../stats/index.ts';
import { casesForDifference, casesForRate } from './cases-needed.ts';
import { clustersOf, testBound, type Measured } from './measure.ts';
import { amount, count, mean, pText, signed, unit } from './wording.ts';

/** A rule with what it would take to decide it, where it is unclear. */
export interface Decided {
  readonly rule: RuleResult;
  readonly casesNeeded: number | null;
}

/** Harm of one metric after Holm's correction over the policy's whole family. */
export interface Harm {
  readonly adjustedP: number;
  readonly shown: boolean;
}

type Outcome = RuleResult['outcome'];

/** Superiority over `minEffect`; a gain of `minEffect` that is excluded fails, harm fails. */
export function decidePrimary(measured: Measured, policy: Policy, harm: Harm): Decided {
  const { minEffect } = policy.primary;
  const { kind } = measured.metric;
  const better = measured.difference.greater(minEffect);
  const excluded = minEffect > 0 && measured.difference.less(minEffect).p <= policy.alpha;
  const above = minEffect > 0 ? ` over ${signed(minEffect, kind)}${unit(kind)}` : '';
  const outcome: Outcome = harm.shown || excluded ? 'fail' : better.p <= policy.alpha ? 'pass' : 'unclear';
  const reason = harm.shown
    ? harmReason(measured, policy, harm)
    : excluded
      ? `a gain of ${signed(minEffect, kind)}${unit(kind)} is excluded: ${facts(measured, policy, better.p)}`
      : outcome === 'pass'
        ? `improvement${above} shown: ${facts(measured, policy, better.p)}`
        : `improvement${above} not shown: ${facts(measured, policy, better.p)}`;
  const rule = result('primary', measured, {
    outcome,
    pValue: better.p,
    adjustedP: harm.adjustedP,
    margin: minEffect,
    test: better.test,
    reason,
  });
  return { rule, casesNeeded: outcome === 'unclear' ? casesForDifference(measured, minEffect, policy) : null };
}

/** Non-inferiority at the margin, and the absolute bound where there is one; the worse of the two decides. */
export function decideCritical(guard: GuardRule, measured: Measured, policy: Policy, harm: Harm): Decided {
  const { kind } = measured.metric;
  const margin = `${signed(-guard.margin, kind)}${unit(kind)}`;
  const inferior = measured.difference.greater(-guard.margin);
  const beyond = measured.difference.less(-guard.margin);
  const worse = beyond.p <= policy.alpha;
  const relative: Outcome = worse ? 'fail' : inferior.p <= policy.alpha ? 'pass' : 'unclear';
  const said = worse
    ? `shown to lose more than the margin ${margin}`
    : relative === 'pass'
      ? `not worse than ${margin}`
      : `a loss beyond ${margin} is not excluded`;
  const bound = guard.absolute === undefined ? null : decideBound(guard.absolute, measured.metric, policy);
  const outcome = worst([relative, bound?.outcome ?? 'pass', harm.shown ? 'fail' : 'pass']);
  const reasons = [
    ...(harm.shown ? [harmReason(measured, policy, harm)] : []),
    ...(harm.shown && !worse ? [] : [`${said}: ${facts(measured, policy, worse ? beyond.p : inferior.p)}`]),
    ...(bound === null ? [] : [bound.reason]),
  ];
  const rule = result('critical', measured, {
    outcome,
    pValue: inferior.p,
    adjustedP: harm.adjustedP,
    margin: guard.margin,
    test: inferior.test,
    reason: reasons.join('; '),
  });
  if (outcome !== 'unclear') return { rule, casesNeeded: null };
  const needs = [
    ...(relative === 'unclear' ? [casesForDifference(measured, -guard.margin, policy)] : []),
    ...(bound?.outcome === 'unclear' ? [bound.casesNeeded] : []),
  ];
  return { rule, casesNeeded: largest(needs) };
}

/** A watched metric blocks on harm that survives Holm's correction, and on nothing else. */
export function decideWatch(measured: Measured, policy: Policy, harm: Harm): Decided {
  const { p, test } = measured.difference.less(0);
  const reason = harm.shown
    ? harmReason(measured, policy, harm)
    : `no harm shown: ${facts(measured, policy, harm.adjustedP, 'harm, Holm')}`;
  const rule = result('watch', measured, {
    outcome: harm.shown ? 'fail' : 'pass',
    pValue: p,
    adjustedP: harm.adjustedP,
    margin: null,
    test,
    reason,
  });
  return { rule, casesNeeded: null };
}

/** The absolute bound of a critical guard where there is no baseline to compare with. */
export function decideFloor(guard: GuardRule, metric: PairedMetric, policy: Policy): Decided {
  const bound = guard.absolute === undefined ? null : decideBound(guard.absolute, metric, policy);
  const test = bound === null ? 'none' : metric.kind === 'rate' ? 'wilson' : 'mean-bound';
  return {
    rule: alone('critical', metric, policy, bound?.outcome ?? 'unclear', test, bound?.reason ?? notCompared(metric)),
    casesNeeded: bound?.casesNeeded ?? null,
  };
}

/** Any other rule where there is no baseline: listed, not judged. */
export function notJudged(role: 'primary' | 'watch', metric: PairedMetric, policy: Policy): Decided {
  return { rule: alone(role, metric, policy, 'unclear', 'none', notCompared(metric)), casesNeeded: null };
}

/** A finding about the evidence itself. */
export function invalidRule(metric: string, reason: string, n: number): RuleResult {
  return {
    role: 'validity',
    metric,
    outcome: 'invalid',
    baseline: null,
    candidate: null,
    difference: null,
    low: null,
    high: null,
    pValue: null,
    adjustedP: null,
    n,
    clusters: 0,
    discordant: null,
    margin: null,
    test: 'validity',
    reason,
  };
}

function decideBound(
  bound: number,
  metric: PairedMetric,
  policy: Policy,
): { readonly outcome: Outcome; readonly reason: string; readonly casesNeeded: number | null } {
  const tested = testBound(metric, bound, policy);
  const value = mean(metric.pairs, 'candidate');
  const name = metric.direction === 'higher' ? 'floor' : 'ceiling';
  const said = { pass: 'holds', fail: 'is shown to be broken', unclear: 'is not shown to hold' }[tested.outcome];
  const range =
    tested.low === null || tested.high === null
      ? ''
      : ` (${level(policy)} % CI ${amount(tested.low, metric.kind)} to ${amount(tested.high, metric.kind)})`;
  return {
    outcome: tested.outcome,
    reason: `the ${name} ${amount(bound, metric.kind)} ${said}: ${metric.metric} is ${amount(value, metric.kind)}${range}`,
    casesNeeded:
      tested.outcome === 'unclear' && metric.kind === 'rate' ? casesForBound(metric, value, bound, policy) : null,
  };
}

function casesForBound(metric: PairedMetric, value: number, bound: number, policy: Policy): number | null {
  const { cluster, count: clusters } = numberClusters(clustersOf(metric, policy));
  const effect = designEffect(
    metric.pairs.map((pair) => pair.candidate),
    cluster,
    clusters,
  );
  return casesForRate(
    value,
    bound,
    metric.direction === 'higher' ? value - bound : bound - value,
    metric.pairs.length,
    effect,
    policy,
  );
}

function result(
  role: RuleResult['role'],
  measured: Measured,
  rest: Pick<RuleResult, 'outcome' | 'pValue' | 'adjustedP' | 'margin' | 'test' | 'reason'>,
): RuleResult {
  const { difference, metric, baseline, candidate } = measured;
  return {
    role,
    metric: metric.metric,
    baseline,
    candidate,
    difference: difference.difference,
    low: difference.interval?.low ?? null,
    high: difference.interval?.high ?? null,
    n: difference.n,
    clusters: difference.clusters,
    discordant: difference.discordant,
    ...rest,
  };
}

function alone(
  role: RuleResult['role'],
  metric: PairedMetric,
  policy: Policy,
  outcome: Outcome,
  test: string,
  reason: string,
): RuleResult {
  return {
    role,
    metric: metric.metric,
    outcome,
    baseline: null,
    candidate: mean(metric.pairs, 'candidate'),
    difference: null,
    low: null,
    high: null,
    pValue: null,
    adjustedP: null,
    n: metric.pairs.length,
    clusters: new Set(clustersOf(metric, policy)).size,
    discordant: null,
    margin: null,
    test,
    reason,
  };
}

function notCompared(metric: PairedMetric): string {
  return `${metric.metric} is not judged: there is no baseline to compare with`;
}

function harmReason(measured: Measured, policy: Policy, harm: Harm): string {
  return `harm shown: ${facts(measured, policy, harm.adjustedP, 'Holm')}`;
}

/** `tickets/all_five +6.3 points (90 % CI +2.1 to +10.5, p = 0.002, n = 300 in 60 clusters, 52 discordant)`. */
function facts({ metric, difference }: Measured, policy: Policy, p: number, pName?: string): string {
  const { kind } = metric;
  const apart = new Set([...metric.onlyBaseline, ...metric.onlyCandidate]).size;
  const parts = [
    ...(difference.interval
      ? [`${level(policy)} % CI ${signed(difference.interval.low, kind)} to ${signed(difference.interval.high, kind)}`]
      : []),
    `${pText(p)}${pName === undefined ? '' : ` (${pName})`}`,
    `n = ${count(difference.n)}${difference.clusters < difference.n ? ` in ${count(difference.clusters)} clusters` : ''}`,
    `${count(difference.discordant)} ${kind === 'rate' ? 'discordant' : 'changed'}`,
    ...(apart > 0 ? [`${count(apart)} ${apart === 1 ? 'case' : 'cases'} in one run only left out`] : []),
    ...(metric.direction === 'lower' ? ['lower is better, + means better'] : []),
  ];
  return `${metric.metric} ${signed(difference.difference, kind)}${unit(kind)} (${parts.join(', ')})`;
}

function level(policy: Policy): number {
  return Number((100 * (1 - 2 * policy.alpha)).toFixed(2));
}

function worst(outcomes: readonly Outcome[]): Outcome {
  return outcomes.includes('fail') ? 'fail' : outcomes.includes('unclear') ? 'unclear' : 'pass';
}

/** The largest of the numbers; null as soon as one cannot be said. */
function largest(values: readonly (number | null)[]): number | null {
  let most: number | null = null;
  for (const value of values) {
    if (value === null) return null;
    most = Math.max(most ?? 0, value);
  }
  return most;
}
