import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { reportFileName } from '../../reports/lib/file-name.ts';
import { formatCount, formatInterval, formatP, formatSigned, formatValue } from '../../reports/lib/format.ts';
import { markdownText } from '../../reports/lib/markdown-text.ts';
import { escapeMarkup } from '../../reports/lib/markup.ts';
import { selectCases } from '../../reports/lib/select-cases.ts';
import { visibleText } from '../../reports/lib/visible-text.ts';
import { ticks } from '../../reports/scorecard/charts/scale.ts';
import { fieldRows, wordDiff } from '../../reports/scorecard/diff.ts';
import { makeCases, SCENARIOS } from './report-inputs.ts';

describe('numbers', () => {
  it('are printed with unit and sign, and a missing one as a dash', () => {
    expect([
      formatValue(0.4821, 'rate'),
      formatValue(63.44, 'percent'),
      formatValue(0.38, 'mean'),
      formatValue(null, 'rate'),
      formatValue(Number.NaN, 'mean'),
    ]).toEqual(['48.2\u202f%', '63.4\u202f%', '0.380', '—', '—']);
    expect([
      formatSigned(0.475, 'rate'),
      formatSigned(-0.0004, 'rate'),
      formatSigned(-0.33, 'mean'),
      formatSigned(0, 'rate'),
    ]).toEqual(['+47.5', '0.0', '−0.330', '0.0']);
    expect(formatInterval(0.431, 0.517, 'rate')).toBe('43.1 to 51.7\u202f%');
    expect([formatP(0.0004), formatP(0.04), formatP(null), formatCount(1234567)]).toEqual([
      '<\u202f0.001',
      '0.040',
      '—',
      '1\u202f234\u202f567',
    ]);
  });

  it('have round ticks inside the range', () => {
    expect(ticks(0, 1, 4)).toEqual([0, 0.5, 1]);
    expect(ticks(-0.04, 0.03, 5)).toEqual([-0.04, -0.02, 0, 0.02]);
    expect(ticks(3, 3, 5)).toEqual([3]);
  });
});

describe('word diff', () => {
  it('gives back both texts', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom('a', 'bb', ' ', '.', '<', '\n')),
        fc.array(fc.constantFrom('a', 'bb', ' ', '.', '<', '\n')),
        (a, b) => {
          const [before, after] = [a.join(''), b.join('')];
          const parts = wordDiff(before, after);
          expect(
            parts
              .filter((part) => part.kind !== 'added')
              .map((part) => part.text)
              .join(''),
          ).toBe(before);
          expect(
            parts
              .filter((part) => part.kind !== 'removed')
              .map((part) => part.text)
              .join(''),
          ).toBe(after);
        },
      ),
    );
  });

  it('compares very long texts as a whole instead of hanging', () => {
    const long = 'word '.repeat(50_000);
    expect(wordDiff(long, `${long}x`)).toHaveLength(2);
  });
});

describe('field comparison', () => {
  it('tells a missing field from an empty one, and gives up on what is no object', () => {
    expect(fieldRows('{"a":1,"b":""}', 'torn {', '{"b":"","c":[1]}')).toEqual([
      { field: 'a', expected: '1', baseline: null, output: null },
      { field: 'b', expected: '', baseline: null, output: '' },
      { field: 'c', expected: null, baseline: null, output: '[1]' },
    ]);
    expect(fieldRows('{"a":1}', null, '{"a":')).toBeNull();
    expect(fieldRows('[1]', null, '[1]')).toBeNull();
  });

  it('is not confused by a field named __proto__', () => {
    expect(fieldRows('{"__proto__":1}', null, '{"x":2}')?.map((row) => [row.field, row.output])).toEqual([
      ['__proto__', null],
      ['x', '2'],
    ]);
  });
});

describe('text', () => {
  it('has no invisible character left', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 20 }), (text) => {
        expect(visibleText(text)).not.toMatch(
          /[\u0000-\u0008\u000b-\u001f\u007f\u200b-\u200f\u202a-\u202e\u2066-\u2069]/,
        );
      }),
    );
  });

  it('leaves no markup when escaped', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('<', '>', '&', '"', "'", 'a') }), (text) => {
        expect(escapeMarkup(text)).not.toMatch(/[<>"']|&(?!(amp|lt|gt|quot|#39);)/);
      }),
    );
  });

  it('cannot break a Markdown cell, link or mention', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('|', '[', '](', '@a', '<', '\n', '`', '\\', 'https://x', '*', 'w') }),
        (text) => {
          const safe = markdownText(text);
          expect(safe).not.toMatch(/[\n<>@]|:\/\//);
          expect(safe.replace(/\\\\/g, '')).not.toMatch(/(?<!\\)[|`*[\]]/);
        },
      ),
    );
  });
});

describe('file names', () => {
  it('stay in the output folder and differ where ids differ', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('a', 'B', '/', '.', '\\', '-', ' ', '\0') }),
        fc.string({ unit: fc.constantFrom('a', 'B', '/', '.', '\\', '-', ' ', '\0') }),
        (a, b) => {
          const [first, second] = [reportFileName('report', a, 'json'), reportFileName('report', b, 'json')];
          expect(first).toMatch(/^report-[A-Za-z0-9._-]+\.json$/);
          expect(first === second).toBe(a === b);
        },
      ),
    );
  });
});

describe('the choice of cases', () => {
  it('keeps places for every kind of change and never shows more than asked', () => {
    const cases = makeCases(SCENARIOS.reject);
    const chosen = selectCases(cases, 100);
    expect(chosen).toHaveLength(100);
    expect(new Set(chosen.map((entry) => entry.change))).toEqual(new Set(['regressed', 'failing', 'improved']));
    expect(selectCases(cases, 10_000)).toHaveLength(cases.length);
    expect(selectCases([], 10)).toEqual([]);
  });
});
