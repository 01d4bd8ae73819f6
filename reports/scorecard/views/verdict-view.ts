import type { ReportInput } from '../../../src/contracts/index.ts';
import {
  differenceUnit,
  formatCount,
  formatSigned,
  formatSignedInterval,
  formatValue,
  plural,
} from '../../lib/format.ts';
import { naiveGateSentences, ruleTally } from '../../lib/gate-sentences.ts';
import { indexMetrics } from '../../lib/metric-index.ts';
import { verdictWords } from '../../lib/words.ts';
import { verdictIconSvg } from '../charts/icons.ts';

export interface Fact {
  readonly label: string;
  readonly value: string;
  readonly note: string;
}

/** The banner: word, icon, headline, and the few figures behind it. */
export function verdictView(input: ReportInput): object {
  const words = verdictWords(input);
  const { verdict } = input;
  return {
    ...words,
    iconSvg: verdictIconSvg(words.tone),
    headline:
      verdict?.headline ??
      `${input.checkpoint.id} was measured as a ${input.checkpoint.role}; it is compared, not judged.`,
    facts: verdict === null ? baselineFacts(input) : gateFacts(input),
    naive: naiveGateSentences(input),
    casesNeeded:
      verdict?.casesNeeded === null || verdict === null
        ? null
        : `About ${plural(verdict.casesNeeded, 'case')} would settle it at 80 % power.`,
    algorithm: verdict?.algorithm ?? null,
  };
}

function gateFacts(input: ReportInput): Fact[] {
  const facts: Fact[] = [];
  const primary = input.verdict?.rules.find((rule) => rule.role === 'primary');
  if (primary !== undefined) {
    const metric = indexMetrics(input).get(primary.metric);
    const kind = metric?.kind ?? 'mean';
    facts.push({
      label: metric?.label ?? primary.metric,
      value: `${formatValue(primary.baseline, kind)} → ${formatValue(primary.candidate, kind)}`,
      note: `${formatSigned(primary.difference, kind)} ${differenceUnit(kind)} (${formatSignedInterval(primary.low, primary.high, kind)})`,
    });
    facts.push({
      label: 'Evidence',
      value: plural(primary.n, 'case'),
      note: `in ${plural(primary.clusters, 'independent cluster')}`,
    });
  }
  const tally = ruleTally(input);
  if (tally !== null) {
    const [value = '', ...rest] = tally.split(', ');
    facts.push({ label: 'Policy', value, note: rest.join(', ') || 'none failed, none unclear' });
  }
  facts.push({
    label: 'Compared with',
    value: input.baselineId ?? 'nothing',
    note: input.baselineId === null ? 'absolute floors only' : 'the baseline of this gate',
  });
  return facts;
}

function baselineFacts(input: ReportInput): Fact[] {
  const facts: Fact[] = [];
  for (const suite of input.suites) {
    const lead = suite.metrics.find((metric) => metric.weight === 'primary');
    if (lead === undefined) continue;
    facts.push({
      label: lead.title,
      value: formatValue(lead.estimate.value, lead.kind),
      note: `${suite.title}, ${formatCount(lead.estimate.n)} cases`,
    });
  }
  return facts.slice(0, 4);
}
