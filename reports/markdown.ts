import type { ReportInput } from '../src/contracts/index.ts';
import { defineReport } from '../src/kit/index.ts';
import { reportFileName } from './lib/file-name.ts';
import {
  differenceUnit,
  formatCount,
  formatEstimateInterval,
  formatP,
  formatSigned,
  formatSignedInterval,
  formatValue,
  NO_VALUE,
} from './lib/format.ts';
import { naiveGateSentences, othersAhead, ruleTally } from './lib/gate-sentences.ts';
import { markdownHead, markdownRow, markdownText as text } from './lib/markdown-text.ts';
import { indexMetrics } from './lib/metric-index.ts';
import { selectCases } from './lib/select-cases.ts';
import { CHANGE_WORDS, outcomeWord, ROLE_SHORT, verdictWords } from './lib/words.ts';

/** What a pull-request comment may hold, in bytes. */
export const MARKDOWN_LIMIT = 64_000;
const MOST_CASES = 10;

const ALERTS = {
  promote: 'TIP',
  reject: 'CAUTION',
  inconclusive: 'WARNING',
  invalid: 'CAUTION',
  none: 'NOTE',
} as const;

/** The verdict with its reasons, for step summaries and comments: at most `MARKDOWN_LIMIT` bytes, whole sections only. */
export function renderMarkdown(input: ReportInput): string {
  let result = '';
  let dropped = 0;
  for (const section of [head, rules, naiveGates, leads, suites, cases, notes, provenance]) {
    const lines = section(input);
    if (lines.length === 0) continue;
    const block = `${lines.join('\n')}\n\n`;
    if (Buffer.byteLength(result) + Buffer.byteLength(block) > MARKDOWN_LIMIT - 200) dropped++;
    else result += block;
  }
  if (dropped > 0) result += `_${dropped} more sections are in the scorecard; they do not fit here._\n\n`;
  return `${result.trimEnd()}\n`;
}

function head(input: ReportInput): string[] {
  const words = verdictWords(input);
  const { verdict, checkpoint } = input;
  const tally = ruleTally(input);
  return [
    `## ${words.word}: ${text(checkpoint.id, 120)}`,
    '',
    `> [!${ALERTS[words.tone]}]`,
    `> ${text(verdict?.headline ?? words.meaning, 1000)}`,
    ...(verdict?.casesNeeded == null
      ? []
      : [`> About ${formatCount(verdict.casesNeeded)} cases would settle it at 80 % power.`]),
    '',
    [
      `${text(input.project, 120)}, ${text(input.date, 40)}`,
      input.baselineId === null ? 'no baseline' : `compared with ${text(input.baselineId, 120)}`,
      ...(tally === null ? [] : [tally]),
    ].join(' · '),
  ];
}

function rules(input: ReportInput): string[] {
  const { verdict } = input;
  if (verdict === null || verdict.rules.length === 0) return [];
  const index = indexMetrics(input);
  const rank = { fail: 0, invalid: 0, unclear: 1, pass: 2 };
  const shown = [...verdict.rules].sort((a, b) => rank[a.outcome] - rank[b.outcome]).slice(0, 60);
  return [
    '### Why',
    '',
    ...markdownHead(
      ['Outcome', 'Rule', 'Role', 'Baseline → this', 'Difference (+ is better)', 'p', 'Holm p', 'Cases / clusters'],
      3,
    ),
    ...shown.map((rule) => {
      const metric = index.get(rule.metric);
      const kind = metric?.kind ?? 'mean';
      const word = outcomeWord(rule);
      const unit = rule.difference === null ? '' : ` ${differenceUnit(kind)}`.trimEnd();
      const interval = formatSignedInterval(rule.low, rule.high, kind);
      return markdownRow([
        rule.outcome === 'pass' ? word : `**${word}**`,
        text(metric?.label ?? rule.metric),
        ROLE_SHORT[rule.role],
        `${formatValue(rule.baseline, kind)} → ${formatValue(rule.candidate, kind)}`,
        `${formatSigned(rule.difference, kind)}${unit}${interval === NO_VALUE ? '' : ` (${interval})`}`,
        formatP(rule.pValue).replace('<', '&lt;'),
        formatP(rule.adjustedP).replace('<', '&lt;'),
        `${formatCount(rule.n)} / ${formatCount(rule.clusters)}`,
      ]);
    }),
    ...(verdict.rules.length > shown.length
      ? ['', `${verdict.rules.length - shown.length} more rules are in the scorecard.`]
      : []),
  ];
}

function naiveGates(input: ReportInput): string[] {
  const sentences = naiveGateSentences(input);
  return sentences.length === 0
    ? []
    : ['### Simpler gates', '', ...sentences.slice(0, 10).map((sentence) => `- ${text(sentence)}`)];
}

function leads(input: ReportInput): string[] {
  const { leads: found } = othersAhead(input);
  return found.length === 0
    ? []
    : [
        '### Where another checkpoint has the better value',
        '',
        ...found.slice(0, 5).map((sentence) => `- ${text(sentence)}`),
      ];
}

function suites(input: ReportInput): string[] {
  const index = indexMetrics(input);
  const rows = [...input.suites]
    .sort((a, b) => (a.layer < b.layer ? -1 : a.layer > b.layer ? 1 : 0))
    .flatMap((suite) =>
      suite.metrics
        .filter((metric) => metric.weight !== 'detail')
        .map(({ name, title, kind, direction, estimate, baseline }) =>
          markdownRow([
            suite.layer,
            text(index.get(`${suite.id}/${name}`)?.label ?? title) +
              (direction === 'lower' ? ' (lower is better)' : ''),
            formatValue(estimate.value, kind),
            formatEstimateInterval(estimate, kind),
            formatValue(baseline?.value, kind),
            `${formatCount(estimate.n)} / ${formatCount(estimate.clusters)}`,
            formatCount(estimate.errors),
            formatCount(estimate.unscored),
          ]),
        ),
    );
  if (rows.length === 0) return [];
  return [
    '### Five layers',
    '',
    ...markdownHead(['Layer', 'Metric', 'Value', '95 % interval', 'Baseline', 'n / clusters', 'Errors', 'Unscored'], 2),
    ...rows.slice(0, 80),
    ...(input.lengthControl === null || input.lengthControl.calibrated
      ? []
      : ['', 'Layer C was judged without calibration: it informs and never gates.']),
  ];
}

function cases(input: ReportInput): string[] {
  const regressed = input.cases.filter((entry) => entry.change === 'regressed');
  if (input.cases.length === 0) return [];
  const counts = (['regressed', 'failing', 'improved'] as const)
    .map(
      (change) =>
        `${CHANGE_WORDS[change].toLowerCase()}: ${formatCount(input.cases.filter((entry) => entry.change === change).length)}`,
    )
    .join(', ');
  return [
    '### Cases',
    '',
    `${counts}.`,
    ...(regressed.length === 0 ? [] : ['']),
    ...selectCases(regressed, MOST_CASES).map(
      (entry) =>
        `- ${text(entry.case, 120)} (${text(entry.suite, 60)}): ${entry.failed
          .slice(0, 3)
          .map((failure) => text(failure.explanation, 160))
          .join('; ')}`,
    ),
    ...(regressed.length > MOST_CASES
      ? [`- and ${regressed.length - MOST_CASES} more regressions in the scorecard`]
      : []),
  ];
}

function notes(input: ReportInput): string[] {
  return input.notes.length === 0
    ? []
    : ['### Notes', '', ...input.notes.slice(0, 20).map((note) => `- ${text(note, 1000)}`)];
}

function provenance(input: ReportInput): string[] {
  const rows = [{ name: 'This checkpoint', digest: input.checkpoint.digest }, ...input.provenance];
  return [
    '<details><summary>Provenance</summary>',
    '',
    ...markdownHead(['What', 'Digest'], 2),
    ...rows.slice(0, 60).map((row) => markdownRow([text(row.name), text(row.digest)])),
    '',
    '</details>',
  ];
}

export default defineReport({
  summary: 'short Markdown summary for step summaries and pull-request comments',
  version: '1.0.0',
  render: async (input) => [
    { path: reportFileName('summary', input.checkpoint.id, 'md'), content: renderMarkdown(input) },
  ],
});
