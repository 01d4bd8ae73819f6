import { describe, expect, it } from 'vitest';
import type { Case, Row } from '../../src/contracts/index.ts';
import { failureKind, minePreferences, type MineOptions } from '../../src/data/index.ts';
import { digestOf, writeJson } from '../../src/kit/index.ts';

type Target = { readonly order_id: string | null; readonly urgency: string; readonly summary: string };
const caseOf = (index: number, target: Target): Case => ({
  id: `c${index}`,
  input: { ticket: `ticket ${index}` },
  target,
  digest: digestOf([index, target]),
});
const rowOf = (one: Case, text: string, change: Partial<Row> = {}): Row => ({
  version: 1,
  suite: 'tickets',
  layer: 'A',
  split: 'validation',
  case: one.id,
  caseDigest: one.digest,
  cluster: null,
  tags: [],
  epoch: 1,
  status: 'ok',
  output: { text },
  usage: { promptTokens: 1, generatedTokens: 1 },
  scores: {},
  ...change,
});
const gold = (one: Case): string => writeJson(one.target);

// 60 cases, a third without an id; the model gets most ids wrong, and invents a few.
const cases = Array.from({ length: 60 }, (_, index) =>
  caseOf(index, { order_id: index % 3 === 0 ? null : 'KX-12345', urgency: 'low', summary: 'late parcel' }),
);
const wrong = (one: Case, index: number): string => {
  const target = one.target as Target;
  if (index % 10 === 9) return gold(one);
  if (target.order_id === null)
    return writeJson({ ...target, ...(index % 2 === 0 ? { urgency: 'high' } : { order_id: 'TRK-1234' }) });
  return writeJson({
    ...target,
    ...(index % 5 === 0 ? { urgency: 'high' } : { order_id: null, summary: 'parcel late' }),
  });
};
const options = (change: Partial<MineOptions> = {}): MineOptions => ({
  cases,
  rows: cases.map((one, index) => rowOf(one, wrong(one, index))),
  renderPrompt: (one) => [{ role: 'user', content: String(one.input['ticket']) }],
  renderGold: gold,
  ignoreFields: ['summary'],
  minLengthRatio: 0.5,
  limit: 30,
  seed: 1,
  ...change,
});

describe('mining preference pairs', () => {
  it('chooses the right answer and rejects what the model wrote', () => {
    const { rows } = minePreferences(options());
    for (const row of rows) {
      const index = Number(row.id.slice('mined-c'.length));
      expect(row).toMatchObject({
        kind: 'preference',
        chosen: gold(cases[index] as Case),
        rejected: wrong(cases[index] as Case, index),
      });
      expect(row.prompt).toEqual([{ role: 'user', content: `ticket ${index}` }]);
    }
  });

  it('keeps the share of null ids that the cases have, and lets kinds of failure take turns', () => {
    const { rows, report } = minePreferences(options());
    expect(report.balance).toEqual({
      any: { cases: 2 / 3, pairs: 2 / 3 },
      'order_id null': { cases: 1 / 3, pairs: 1 / 3 },
    });
    expect(report.kinds).toEqual({ 'order_id invented': 5, 'order_id missing': 12, urgency: 13 });
    expect(report).toMatchObject({ cases: 60, failures: 54, droppedByLength: 0, pairs: 30, droppedByBalance: 24 });
    expect(rows).toHaveLength(30);
  });

  it('gives the same pairs whatever the order of the rows, and others for another seed', () => {
    const ids = (change: Partial<MineOptions>): string[] => minePreferences(options(change)).rows.map(({ id }) => id);
    expect(ids({ rows: [...options().rows].reverse() })).toEqual(ids({}));
    expect(ids({ seed: 2 })).not.toEqual(ids({}));
  });

  it('shrinks the pool rather than skew it much, but not for a rare key', () => {
    const one = caseOf(60, { order_id: null, urgency: 'low', summary: 'late parcel' });
    const rare = (share: string) =>
      minePreferences(
        options({
          cases: [...cases, one],
          rows: [...options().rows, rowOf(one, gold(one))],
          limit: 1000,
          balanceKey: ({ id }) => (id === one.id ? share : 'usual'),
        }),
      );
    expect(rare('rare').rows).toHaveLength(54);
    // A third of the cases has no id, but of those only every third case failed: the pool holds at least a ninth.
    const few = options().rows.map((row, index) =>
      index % 9 === 0 || index % 3 !== 0 ? row : rowOf(cases[index] as Case, gold(cases[index] as Case)),
    );
    const third = minePreferences(options({ rows: few, limit: 1000 })).report;
    expect(third.balance['order_id null']?.pairs).toBeGreaterThan(1 / 9 - 0.01);
    expect(third.balance['order_id null']?.pairs).toBeLessThan(1 / 3);
  });

  it('lets a key without any failure be, and shows it', () => {
    const solved = options().rows.map((row, index) =>
      index % 3 === 0 ? rowOf(cases[index] as Case, gold(cases[index] as Case)) : row,
    );
    const { report } = minePreferences(options({ rows: solved }));
    expect(report.balance['order_id null']).toEqual({ cases: 1 / 3, pairs: 0 });
  });

  it('leaves out pairs of unequal length and says how many', () => {
    const { report } = minePreferences(options({ minLengthRatio: 0.95 }));
    expect(report.droppedByLength).toBeGreaterThan(0);
    expect(report.failures).toBe(54);
    expect(Math.abs(report.meanLength.chosen / report.meanLength.rejected - 1)).toBeLessThan(0.05);
  });

  it.each(['test', 'novel', 'all'])('refuses the split %s, even for one row', (split) => {
    const rows = options().rows.map((row, index) => (index === 7 ? { ...row, split } : row));
    expect(() => minePreferences(options({ rows }))).toThrow(
      expect.objectContaining({
        code: 'CUPEL_DATA_TEST_SPLIT',
        message: `row of case "c7" is of the split "${split}"`,
      }),
    );
  });

  it('refuses rows of other or changed cases', () => {
    const stranger = rowOf(caseOf(99, { order_id: null, urgency: 'low', summary: '' }), '{}');
    expect(() => minePreferences(options({ rows: [stranger] }))).toThrow(
      expect.objectContaining({ code: 'CUPEL_DATA_MINE_MISMATCH' }),
    );
    const changed = rowOf(cases[0] as Case, '{}', { caseDigest: 'sha256:0' });
    expect(() => minePreferences(options({ rows: [changed] }))).toThrow(
      expect.objectContaining({ code: 'CUPEL_DATA_MINE_MISMATCH' }),
    );
  });

  it('says so when nothing failed', () => {
    expect(() => minePreferences(options({ rows: cases.map((one) => rowOf(one, gold(one))) }))).toThrow(
      expect.objectContaining({ code: 'CUPEL_DATA_MINE_NOTHING' }),
    );
  });
});

describe('the kind of a failure', () => {
  it.each([
    ['{"a": 1}', '{"a":1}', null],
    ['{"a": 1}', '{"a": ', 'not json'],
    ['{"a": 1, "b": null}', '{"a": 2, "b": "x"}', 'a, b invented'],
    ['{"a": 1}', '{"a": null}', 'a missing'],
    ['{"a": true}', '{"a": false}', 'a as false'],
    ['{"a": 1}', '{}', 'a missing'],
    ['{"a": 1}', '{"a": 1, "c": 2}', 'c invented'],
    ['{"a": 1, "text": "x"}', '{"a": 1, "text": "y"}', null],
    ['plain', 'plain ', null],
    ['plain', 'other', 'text'],
  ])('%s against %s is %s', (right, given, kind) => expect(failureKind(right, given, ['text'])).toBe(kind));
});
