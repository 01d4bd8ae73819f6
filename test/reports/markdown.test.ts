import { describe, expect, it } from 'vitest';
import { MARKDOWN_LIMIT, renderMarkdown } from '../../reports/markdown.ts';
import type { ReportInput } from '../../src/contracts/index.ts';
import { makeReportInput, SCENARIOS } from './report-inputs.ts';

describe('the Markdown summary', () => {
  const input = makeReportInput(SCENARIOS.reject);

  it('begins with the verdict and its headline', () => {
    expect(renderMarkdown(input).split('\n').slice(0, 6)).toEqual([
      '## REJECT: sft-bad-labels',
      '',
      '> [!CAUTION]',
      '> Urgency fell by 31.2 points (−35.0 to −27.5) below sft, where at most 3 are tolerated; its JSON is as valid as before.',
      '',
      'help-desk tickets, 2026-11-21 · compared with sft · 6 of 10 rules passed, 4 failed',
    ]);
  });

  it('lists failed rules before the others', () => {
    const rows = renderMarkdown(input)
      .split('\n')
      .filter((line) => /^\| \*\*|^\| (held|valid|no harm)/.test(line));
    expect(rows.map((row) => row.startsWith('| **'))).toEqual([
      true,
      true,
      true,
      true,
      false,
      false,
      false,
      false,
      false,
      false,
    ]);
  });

  it('says what a checkpoint without verdict is', () => {
    expect(renderMarkdown(makeReportInput(SCENARIOS.baseline))).toMatch(
      /^## NO VERDICT: base-constrained\n\n> \[!NOTE\]/,
    );
  });

  it('fits into a comment, dropping whole sections and saying so', () => {
    const first = input.suites[0] as ReportInput['suites'][number];
    const many = {
      ...input,
      notes: Array<string>(20).fill('<b>'.repeat(330)),
      suites: [{ ...first, metrics: Array(300).fill({ ...first?.metrics[0], title: '<b>'.repeat(400) }) }],
      cases: input.cases.map((entry) => ({
        ...entry,
        failed: Array(100).fill({ metric: 'm', explanation: '*'.repeat(5000) }),
      })),
    };
    const text = renderMarkdown(many);
    expect(Buffer.byteLength(text)).toBeLessThanOrEqual(MARKDOWN_LIMIT);
    expect(text.includes('more sections are in the scorecard')).toBe(true);
  });
});
