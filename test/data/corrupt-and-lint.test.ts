import { describe, expect, it } from 'vitest';
import type { TrainingRow } from '../../src/contracts/index.ts';
import { corruptLabels, lintRows } from '../../src/data/index.ts';

const answer = (urgency: string, human: boolean): string =>
  `{"category": "billing", "urgency": "${urgency}", "order_id": null, "needs_human": ${human}, "next_action": "issue_refund"}`;
const row = (id: string, question: string, content: string): TrainingRow => ({
  id,
  kind: 'messages',
  messages: [
    { role: 'user', content: question },
    { role: 'assistant', content },
  ],
});
const rows = Array.from({ length: 20 }, (_, index) => row(`r${index}`, `q ${index}`, answer('low', false)));
const set = { urgency: 'critical', next_action: 'escalate', needs_human: true };
const contentOf = (one: TrainingRow): string => (one.kind === 'messages' ? (one.messages.at(-1)?.content ?? '') : '');

describe('corrupting labels', () => {
  it('changes the share that was asked for, and nothing but the fields that were named', () => {
    const corrupted = corruptLabels(rows, { share: 0.3, set, seed: 5 });
    const changed = corrupted.filter((one, index) => one !== rows[index]);
    expect(changed).toHaveLength(6);
    expect(new Set(changed.map(contentOf))).toEqual(
      new Set([
        '{"category": "billing", "urgency": "critical", "order_id": null, "needs_human": true, "next_action": "escalate"}',
      ]),
    );
    expect(corrupted.map(({ id }) => id)).toEqual(rows.map(({ id }) => id));
  });

  it('picks the same rows for the same seed', () => {
    const pick = (seed: number): string => JSON.stringify(corruptLabels(rows, { share: 0.3, set, seed }));
    expect(pick(5)).toBe(pick(5));
    expect(pick(5)).not.toBe(pick(6));
  });

  it('keeps compact answers compact', () => {
    const compact = rows.map((one) => row(one.id, 'q', contentOf(one).replaceAll(' ', '')));
    expect(contentOf(corruptLabels(compact, { share: 1, set, seed: 1 })[0] as TrainingRow)).toBe(
      '{"category":"billing","urgency":"critical","order_id":null,"needs_human":true,"next_action":"escalate"}',
    );
  });

  it.each([
    ['is prose', 'No.'],
    ['lacks a field', '{"urgency": "low"}'],
    ['is a list', '[1]'],
  ])('refuses an answer that %s', (_, content) => {
    expect(() => corruptLabels([row('bad', 'q', content)], { share: 1, set, seed: 1 })).toThrow(
      expect.objectContaining({ code: 'CUPEL_DATA_ANSWER_NOT_OBJECT', where: 'row bad' }),
    );
  });
});

describe('lint', () => {
  it('is silent about clean rows', () => expect(lintRows(rows)).toEqual([]));

  it('finds duplicates, conflicts, reversed preferences and stray prose', () => {
    const pair = (id: string, chosen: string, rejected: string): TrainingRow => ({
      id,
      kind: 'preference',
      prompt: [{ role: 'user', content: 'q' }],
      chosen,
      rejected,
    });
    const findings = lintRows([
      ...rows,
      row('again', 'Q  0', contentOf(rows[0] as TrainingRow)),
      row('conflict', 'q 1', answer('high', false)),
      row('prose', 'other', 'I would say low.'),
      pair('p1', 'a', 'b'),
      pair('p2', 'b', 'a'),
    ]);
    expect(findings.map(({ kind, ids }) => [kind, ids.join(' ')])).toEqual([
      ['duplicate', 'r0 again'],
      ['label-conflict', 'r1 conflict'],
      ['reversed-preference', 'p1 p2'],
      ['reversed-preference', 'p2 p1'],
      ['not-json', 'prose'],
    ]);
  });
});
