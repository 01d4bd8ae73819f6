import type { ReportInput } from '../../src/contracts/index.ts';
import { formatValue, plural } from './format.ts';
import { indexMetrics } from './metric-index.ts';

/** Sentences where a simpler gate would have decided otherwise. Empty without verdict. */
export function naiveGateSentences(input: ReportInput): string[] {
  const { verdict } = input;
  if (verdict === null) return [];
  const shipped = verdict.kind === 'PROMOTE';
  return input.naiveGates
    .filter((gate) => (gate.verdict === 'PROMOTE') !== shipped)
    .map((gate) =>
      shipped
        ? `“${gate.name}” would have blocked this checkpoint.`
        : `“${gate.name}” would have let this checkpoint through.`,
    );
}

export interface Lead {
  readonly sentence: string;
  readonly gap: number;
}

/** Where another checkpoint has the better value than this one: the widest gaps first, rates before means. */
export function othersAhead(input: ReportInput): { readonly leads: readonly string[]; readonly compared: number } {
  const own = input.comparison.find((entry) => entry.id === input.checkpoint.id);
  if (own === undefined) return { leads: [], compared: 0 };
  const found: Lead[] = [];
  let compared = 0;
  for (const [path, metric] of indexMetrics(input)) {
    const mine = own.metrics[path]?.value ?? null;
    if (mine === null || metric.weight === 'detail') continue;
    const sign = metric.direction === 'higher' ? 1 : -1;
    const others = input.comparison.flatMap((entry) => {
      const estimate = entry === own ? undefined : entry.metrics[path];
      return estimate === undefined || estimate.value === null
        ? []
        : [{ id: entry.id, estimate, value: estimate.value }];
    });
    if (others.length === 0) continue;
    compared++;
    const best = others.reduce((a, b) => ((b.value - a.value) * sign > 0 ? b : a));
    if (formatValue(best.value, metric.kind) === formatValue(mine, metric.kind) || (best.value - mine) * sign <= 0)
      continue;
    const [ownLow, ownHigh] = [own.metrics[path]?.low ?? null, own.metrics[path]?.high ?? null];
    const apart =
      ownLow !== null &&
      ownHigh !== null &&
      best.estimate.low !== null &&
      best.estimate.high !== null &&
      (best.estimate.low > ownHigh || best.estimate.high < ownLow);
    found.push({
      gap: metric.kind === 'rate' ? (best.value - mine) * sign : 0,
      sentence: `${metric.label}: ${best.id} has ${formatValue(best.value, metric.kind)}, this checkpoint ${formatValue(mine, metric.kind)} (${apart ? 'intervals apart' : 'intervals overlap'}).`,
    });
  }
  found.sort((a, b) => b.gap - a.gap);
  return { leads: found.map((lead) => lead.sentence), compared };
}

/** `12 of 14 rules passed`, by words. */
export function ruleTally(input: ReportInput): string | null {
  const rules = input.verdict?.rules ?? [];
  if (rules.length === 0) return null;
  const passed = rules.filter((rule) => rule.outcome === 'pass').length;
  const parts = [`${passed} of ${plural(rules.length, 'rule')} passed`];
  for (const [outcome, word] of [
    ['fail', 'failed'],
    ['unclear', 'not shown'],
    ['invalid', 'not valid'],
  ] as const) {
    const count = rules.filter((rule) => rule.outcome === outcome).length;
    if (count > 0) parts.push(`${count} ${word}`);
  }
  return parts.join(', ');
}
