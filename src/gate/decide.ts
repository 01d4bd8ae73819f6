import type { PairedMetric, Policy, RuleResult, Verdict, VerdictKind } from '../contracts/index.ts';
import { digestOf } from '../kit/index.ts';
import { holm } from '../stats/index.ts';
import { headlineOf, type CasesNeeded } from './headline.ts';
import { measure, validityProblem, type Measured } from './measure.ts';
import { policyMetrics } from './policy.ts';
import {
  decideCritical,
  decideFloor,
  decidePrimary,
  decideWatch,
  invalidRule,
  notJudged,
  type Decided,
  type Harm,
} from './rules.ts';

/** Name and version of the rules below; part of every verdict. */
export const algorithm = 'cupel-gate/1';

export interface DecideInput {
  readonly comparisons: readonly PairedMetric[];
  readonly policy: Policy;
  /** null: no baseline yet; then only the absolute bounds of critical guards are judged. */
  readonly baseline: Verdict['baseline'];
  readonly candidate: Verdict['candidate'];
  /** Faults of the evidence, from `evidenceProblems`: any makes the verdict INVALID. */
  readonly problems?: readonly string[];
}

/**
 * Decides a policy over comparisons: pure, no clock, and the same bytes whatever the order of comparisons and rows.
 * - INVALID: a metric of the policy was not measured, has a case twice, values that are none, fewer than 10 cases or
 *   clusters, or more missing outputs than the policy allows.
 * - REJECT: harm shown on any metric of the policy (one-sided, Holm over all of them), a critical guard shown worse than
 *   its margin or beyond its absolute bound, or a primary gain of `minEffect` excluded.
 * - PROMOTE: the primary metric shown better than `minEffect`, and every critical guard shown within its margin and bound.
 * - INCONCLUSIVE: anything else, with the number of cases that would settle it.
 * In `rules`, `pValue` is of the rule's own question (superiority, non-inferiority, harm) and `adjustedP` of harm after Holm.
 */
export function decide(input: DecideInput): Verdict {
  const { policy, baseline, candidate } = input;
  const comparisons = input.comparisons.map(inCaseOrder);
  const byPath = new Map(comparisons.map((comparison) => [comparison.metric, comparison]));
  const invalid: RuleResult[] = (input.problems ?? []).map((problem) => invalidRule('*', problem, 0));
  for (const [, path] of policyMetrics(policy)) {
    const problem =
      invalid.length > 0 && input.problems?.length ? null : validityProblem(path, byPath.get(path), policy);
    if (problem !== null) invalid.push(invalidRule(path, problem, byPath.get(path)?.pairs.length ?? 0));
  }
  const decided: readonly Decided[] =
    invalid.length > 0 ? [] : baseline === null ? decideAlone(byPath, policy) : decideCompared(byPath, policy);
  const rules = invalid.length > 0 ? invalid : decided.map(({ rule }) => rule);
  const kind = kindOf(rules, baseline !== null);
  const cases = kind === 'INCONCLUSIVE' ? totalCases(decided, comparisons) : null;
  return {
    version: 1,
    algorithm,
    kind,
    headline: headlineOf(kind, rules, cases, baseline !== null, policy),
    rules,
    casesNeeded: cases?.needed ?? null,
    policyDigest: digestOf(policy),
    baseline,
    candidate,
  };
}

/** Sums, and with them the bytes of the verdict, must not depend on the order of rows. */
function inCaseOrder(comparison: PairedMetric): PairedMetric {
  return {
    ...comparison,
    pairs: [...comparison.pairs].sort((a, b) => (a.case < b.case ? -1 : a.case > b.case ? 1 : 0)),
  };
}

function decideCompared(byPath: ReadonlyMap<string, PairedMetric>, policy: Policy): Decided[] {
  const measured = new Map(
    policyMetrics(policy).map(([, path]) => [path, measure(byPath.get(path) as PairedMetric, policy)]),
  );
  const paths = [...measured.keys()];
  const adjusted = holm(paths.map((path) => (measured.get(path) as Measured).difference.less(0).p));
  const harm = new Map(
    paths.map((path, i): [string, Harm] => [
      path,
      { adjustedP: adjusted[i] as number, shown: (adjusted[i] as number) <= policy.alpha },
    ]),
  );
  const of = (path: string): [Measured, Policy, Harm] => [
    measured.get(path) as Measured,
    policy,
    harm.get(path) as Harm,
  ];
  return [
    decidePrimary(...of(policy.primary.metric)),
    ...policy.guards.critical.map((guard) => decideCritical(guard, ...of(guard.metric))),
    ...policy.guards.watch.map((watch) => decideWatch(...of(watch.metric))),
  ];
}

function decideAlone(byPath: ReadonlyMap<string, PairedMetric>, policy: Policy): Decided[] {
  const of = (path: string): PairedMetric => byPath.get(path) as PairedMetric;
  return [
    notJudged('primary', of(policy.primary.metric), policy),
    ...policy.guards.critical.map((guard) => decideFloor(guard, of(guard.metric), policy)),
    ...policy.guards.watch.map((watch) => notJudged('watch', of(watch.metric), policy)),
  ];
}

function kindOf(rules: readonly RuleResult[], hasBaseline: boolean): VerdictKind {
  if (rules.some((rule) => rule.outcome === 'invalid')) return 'INVALID';
  if (rules.some((rule) => rule.outcome === 'fail')) return 'REJECT';
  const judged = hasBaseline ? rules : rules.filter((rule) => rule.test !== 'none');
  return judged.length > 0 && judged.every((rule) => rule.outcome === 'pass') ? 'PROMOTE' : 'INCONCLUSIVE';
}

/**
 * Cases of a whole suite: a metric that applies to a third of the cases needs three times as many cases as it needs
 * values. The largest need of all open rules; null as soon as one cannot be said.
 */
function totalCases(decided: readonly Decided[], comparisons: readonly PairedMetric[]): CasesNeeded | null {
  let most: CasesNeeded | null = null;
  for (const { rule, casesNeeded } of decided) {
    if (rule.outcome !== 'unclear' || rule.test === 'none') continue;
    if (casesNeeded === null) return null;
    const suite = rule.metric.slice(0, rule.metric.indexOf('/'));
    const have = Math.max(
      ...comparisons.filter(({ metric }) => metric.startsWith(`${suite}/`)).map(({ pairs }) => pairs.length),
    );
    const needed = Math.ceil((casesNeeded * have) / rule.n);
    if (most === null || needed > most.needed) most = { suite, needed, have };
  }
  return most;
}
