import type { ReportInput, RuleResult } from '../../../src/contracts/index.ts';
import {
  differenceUnit,
  formatCount,
  formatP,
  formatSigned,
  formatSignedInterval,
  formatValue,
  NO_VALUE,
  type NumberKind,
} from '../../lib/format.ts';
import { indexMetrics } from '../../lib/metric-index.ts';
import { outcomeWord, ROLE_SHORT, ROLE_WORDS } from '../../lib/words.ts';
import { axisSvg } from '../charts/axis.ts';
import { outcomeIconSvg } from '../charts/icons.ts';
import { intervalSvg } from '../charts/interval.ts';
import { paddedRange } from '../charts/scale.ts';

const TONES = { pass: 'good', fail: 'bad', unclear: 'unclear', invalid: 'invalid' } as const;

interface NamedRule {
  readonly rule: RuleResult;
  readonly title: string;
  readonly label: string;
  readonly kind: NumberKind;
  readonly suite: string;
  readonly lower: boolean;
}

/** The rules of the gate as decided, what simpler gates say, and the forest plot. Null without verdict. */
export function rulesView(input: ReportInput): object | null {
  const { verdict } = input;
  if (verdict === null) return null;
  const index = indexMetrics(input);
  const named = verdict.rules.map((rule): NamedRule => {
    const metric = index.get(rule.metric);
    return {
      rule,
      title: metric?.title ?? rule.metric,
      label: metric?.label ?? rule.metric,
      kind: metric?.kind ?? 'mean',
      suite: metric?.suite.title ?? '',
      lower: metric?.direction === 'lower',
    };
  });
  return {
    rows: named.map(ruleRow),
    roles: [...new Set(verdict.rules.map((rule) => rule.role))].map((role) => ({
      name: ROLE_SHORT[role],
      meaning: ROLE_WORDS[role],
    })),
    naive: input.naiveGates.map((gate) => ({
      name: gate.name,
      verdict: gate.verdict,
      verdictTone: gate.verdict === 'PROMOTE' ? 'good' : 'bad',
      disagrees: (gate.verdict === 'PROMOTE') !== (verdict.kind === 'PROMOTE'),
      reason: gate.reason,
    })),
    verdictWord: verdict.kind,
    forests: forests(named),
    holm: verdict.rules.some((rule) => rule.adjustedP !== null),
  };
}

function ruleRow({ rule, title, kind, suite, lower }: NamedRule): object {
  const tone = TONES[rule.outcome];
  return {
    tone,
    iconSvg: outcomeIconSvg(tone),
    outcome: outcomeWord(rule),
    role: ROLE_SHORT[rule.role],
    title: title,
    suite: suite,
    lower,
    baseline: formatValue(rule.baseline, kind),
    candidate: formatValue(rule.candidate, kind),
    difference: formatSigned(rule.difference, kind),
    unit: rule.difference === null ? '' : differenceUnit(kind),
    interval: formatSignedInterval(rule.low, rule.high, kind),
    p: formatP(rule.pValue),
    holm: formatP(rule.adjustedP),
    n: formatCount(rule.n),
    clusters: formatCount(rule.clusters),
    discordant: rule.discordant === null ? null : formatCount(rule.discordant),
    margin:
      rule.margin === null
        ? NO_VALUE
        : rule.role === 'primary' && rule.margin === 0
          ? 'any gain'
          : `${formatSigned(rule.margin, kind).replace('+', '')} ${differenceUnit(kind)}`.trim(),
    test: rule.test,
    reason: rule.reason,
  };
}

/** Rates share one axis in points; every other metric has an axis of its own, as units differ. */
function forests(named: readonly NamedRule[]): object[] {
  const drawn = named.filter(({ rule }) => rule.difference !== null && rule.low !== null && rule.high !== null);
  const groups = [
    drawn.filter((entry) => entry.kind === 'rate'),
    ...drawn.filter((entry) => entry.kind !== 'rate').map((entry) => [entry]),
  ];
  return groups.filter((group) => group.length > 0).map(forest);
}

function forest(group: readonly NamedRule[]): object {
  const rate = group[0]?.kind === 'rate';
  const marginOf = (rule: RuleResult): number | null =>
    rule.margin === null || rule.role === 'watch' ? null : rule.role === 'primary' ? rule.margin : -rule.margin;
  const range = paddedRange(
    [0, ...group.flatMap(({ rule }) => [rule.difference ?? 0, rule.low ?? 0, rule.high ?? 0, marginOf(rule) ?? 0])],
    0.05,
  );
  const tickLabel = (value: number): string =>
    value === 0 ? '0' : rate ? formatSigned(value, 'rate').replace('.0', '') : formatSigned(value, 'mean');
  return {
    caption: rate
      ? 'Differences of rates, in percentage points'
      : `Difference of ${group[0]?.label ?? ''}, in its own unit`,
    axisSvg: axisSvg(range, tickLabel),
    rows: group.map(({ rule, label, kind }) => {
      const margin = marginOf(rule);
      return {
        title: label,
        role: ROLE_SHORT[rule.role],
        difference: formatSigned(rule.difference, kind),
        interval: formatSignedInterval(rule.low, rule.high, kind),
        outcome: outcomeWord(rule),
        tone: TONES[rule.outcome],
        chartSvg: intervalSvg({ value: rule.difference, low: rule.low, high: rule.high }, range, {
          tone: TONES[rule.outcome],
          lines: [
            { at: 0, className: 'zero' },
            ...(margin === null || margin === 0 ? [] : [{ at: margin, className: 'margin' }]),
          ],
        }),
      };
    }),
  };
}
