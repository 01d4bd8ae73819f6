import type { Policy, RuleResult, VerdictKind } from '../contracts/index.ts';
import { count } from './wording.ts';

/** Cases of a suite that would settle what is open, and how many there are. */
export interface CasesNeeded {
  readonly suite: string;
  readonly needed: number;
  readonly have: number;
}

/** The one sentence that a release manager can read out. */
export function headlineOf(
  kind: VerdictKind,
  rules: readonly RuleResult[],
  cases: CasesNeeded | null,
  hasBaseline: boolean,
  policy: Policy,
): string {
  const reasons = (outcome: RuleResult['outcome'], role?: RuleResult['role']): string[] =>
    rules
      .filter((rule) => rule.outcome === outcome && (role === undefined || rule.role === role))
      .map((rule) => rule.reason);
  const floors = hasBaseline ? '' : 'first release, judged by absolute bounds alone: ';
  if (kind === 'INVALID') return `INVALID — ${few(reasons('invalid'))}.`;
  if (kind === 'REJECT') return `REJECT — ${floors}${few(reasons('fail'))}.`;
  if (kind === 'PROMOTE') {
    return hasBaseline
      ? `PROMOTE — ${[...reasons('pass', 'primary'), guards(rules), `no harm in ${plural(rules.length, 'metric')} (Holm)`].join('; ')}.`
      : `PROMOTE — ${floors}${reasons('pass', 'critical').join('; ')}; nothing was compared, because there is no baseline.`;
  }
  if (!hasBaseline && policy.guards.critical.every((guard) => guard.absolute === undefined)) {
    return 'INCONCLUSIVE — there is no baseline to compare with, and the policy has no absolute bound that could judge a first release.';
  }
  const open = rules.filter((rule) => rule.outcome === 'unclear' && rule.test !== 'none');
  const need =
    cases === null
      ? ''
      : `; about ${count(cases.needed)} cases of ${cases.suite} would settle it at 80 % power if what is seen is true (have ${count(cases.have)})`;
  return `INCONCLUSIVE — ${floors}not enough evidence: ${few(open.map((rule) => rule.reason))}${need}.`;
}

function guards(rules: readonly RuleResult[]): string {
  const critical = rules.filter((rule) => rule.role === 'critical');
  if (critical.length === 0) return 'no critical guard in the policy';
  const room = (rule: RuleResult): number => ((rule.low ?? 0) + (rule.margin ?? 0)) / (rule.margin ?? 1);
  const [closest] = [...critical].sort((a, b) => room(a) - room(b)) as [RuleResult, ...RuleResult[]];
  return `${critical.length} of ${critical.length} critical guards hold (closest: ${closest.reason})`;
}

function few(reasons: readonly string[]): string {
  const shown = reasons.slice(0, 2).join('; ');
  return reasons.length > 2 ? `${shown}; and ${plural(reasons.length - 2, 'more finding')}` : shown;
}

function plural(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}
