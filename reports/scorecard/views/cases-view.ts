import type { CaseReport, ReportInput } from '../../../src/contracts/index.ts';
import { formatCount } from '../../lib/format.ts';
import { indexMetrics, type MetricEntry } from '../../lib/metric-index.ts';
import { selectCases } from '../../lib/select-cases.ts';
import { clippedText } from '../../lib/visible-text.ts';
import { CHANGE_ORDER, CHANGE_WORDS } from '../../lib/words.ts';
import { fieldRows, wordDiff } from '../diff.ts';

/** Cases embedded in a page, characters of one text, bytes of all cases together. */
export const CASE_LIMITS = { cases: 150, characters: 3000, bytes: 1_300_000 } as const;

/** A case with its texts made visible and cut to what a page shows. */
export function shortCase(entry: CaseReport): CaseReport {
  const cut = (text: string): string => clippedText(text, CASE_LIMITS.characters);
  return {
    ...entry,
    suite: clippedText(entry.suite, 120),
    case: clippedText(entry.case, 120),
    input: cut(entry.input),
    expected: cut(entry.expected),
    baselineOutput: entry.baselineOutput === null ? null : cut(entry.baselineOutput),
    output: cut(entry.output),
    failed: entry.failed.slice(0, 20).map(({ metric, explanation }) => ({
      metric: clippedText(metric, 120),
      explanation: clippedText(explanation, 600),
    })),
    tags: entry.tags.slice(0, 12).map((tag) => clippedText(tag, 60)),
  };
}

export interface CaseGroup {
  readonly change: CaseReport['change'];
  readonly word: string;
  readonly shown: string;
  readonly total: string;
  readonly left: boolean;
  readonly casesHtml: string;
}

/**
 * The case browser. Cases are rendered one by one, so that the page's size has a bound whatever the texts are.
 * @param renderCase the `case` template.
 */
export function casesView(input: ReportInput, renderCase: (view: object) => string): object {
  const index = indexMetrics(input);
  const chosen = selectCases(input.cases, CASE_LIMITS.cases);
  const rendered: { entry: CaseReport; html: string }[] = [];
  let bytes = 0;
  for (const entry of chosen) {
    const html = renderCase(caseView(entry, input, index, rendered.length + 1));
    bytes += Buffer.byteLength(html);
    if (bytes > CASE_LIMITS.bytes) break;
    rendered.push({ entry, html });
  }
  const groups = CHANGE_ORDER.flatMap((change): CaseGroup[] => {
    const total = input.cases.filter((entry) => entry.change === change).length;
    const shown = rendered.filter(({ entry }) => entry.change === change);
    if (total === 0) return [];
    return [
      {
        change,
        word: CHANGE_WORDS[change],
        shown: formatCount(shown.length),
        total: formatCount(total),
        left: total > shown.length,
        casesHtml: shown.map(({ html }) => html).join(''),
      },
    ];
  });
  const metrics = new Map(
    rendered.flatMap(({ entry }) =>
      entry.failed.map((failure) => [failure.metric, metricTitle(index, entry.suite, failure.metric)] as const),
    ),
  );
  const unique = (values: readonly string[]): { value: string; title: string }[] =>
    [...new Set(values)].map((value) => ({ value: value, title: value }));
  return {
    groups,
    any: input.cases.length > 0,
    shown: formatCount(rendered.length),
    total: formatCount(input.cases.length),
    rest: formatCount(input.cases.length - rendered.length),
    hasRest: input.cases.length > rendered.length,
    suites: unique(rendered.map(({ entry }) => entry.suite)),
    metrics: [...metrics].map(([value, title]) => ({ value: value, title: title })),
    changes: groups.map((group) => ({ value: group.change, title: group.word })),
  };
}

function metricTitle(index: ReadonlyMap<string, MetricEntry>, suite: string, metric: string): string {
  return (index.get(metric) ?? index.get(`${suite}/${metric}`))?.title ?? metric;
}

function caseView(
  entry: CaseReport,
  input: ReportInput,
  index: ReadonlyMap<string, MetricEntry>,
  number: number,
): object {
  const { baselineOutput: before, output } = entry;
  const rows = fieldRows(entry.expected, before, output);
  return {
    id: entry.case,
    suite: entry.suite,
    change: entry.change,
    metricKeys: entry.failed.map((failure) => failure.metric).join(' '),
    failed: entry.failed.map((failure) => ({
      title: metricTitle(index, entry.suite, failure.metric),
      explanation: failure.explanation || 'failed',
    })),
    tags: entry.tags,
    open: number === 1,
    excerpt: entry.input.slice(0, 110).replace(/\s+/g, ' '),
    input: entry.input,
    expected: entry.expected === '' ? null : entry.expected,
    baselineName: input.baselineId ?? 'baseline',
    fields: rows === null ? null : rows.map((row) => fieldView(row, before !== null)),
    hasBaseline: before !== null,
    baseline: before === null ? null : { empty: before === '', text: before },
    output: { empty: output === '', text: output },
    diff: before === null || rows !== null || before === output ? null : diffView(before, output),
    same: before !== null && before === output,
  };
}

function fieldView(
  row: { field: string; expected: string | null; baseline: string | null; output: string | null },
  hasBaseline: boolean,
): object {
  const cell = (value: string | null): object => ({
    text: value === null ? 'missing' : value === '' ? 'empty' : clippedText(value, 400),
    none: value === null || value === '',
    right: value === row.expected,
  });
  return {
    field: clippedText(row.field, 60),
    expected: cell(row.expected),
    baseline: hasBaseline ? cell(row.baseline) : null,
    output: cell(row.output),
    differs: row.output !== row.expected,
  };
}

function diffView(before: string, after: string): object[] {
  return wordDiff(before, after).map((part) => ({
    text: part.text,
    removed: part.kind === 'removed',
    added: part.kind === 'added',
  }));
}
