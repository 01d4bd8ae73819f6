import { describe, expect, it } from 'vitest';
import fc from 'fast-check';
import type { TrainEvent, TrainingRow } from '../../src/contracts/index.ts';
import { type HeldOutInput, lintRows, reviewRows } from '../../src/data/index.ts';
import { SimilarTexts } from '../../src/data/min-hash.ts';

const words = (text: string, from: number, count: number): string =>
  Array.from({ length: count }, (_, index) => `${text}${from + index}`).join(' ');
const row = (id: string, content: string, answer = `answer ${id}`): TrainingRow => ({
  id,
  kind: 'messages',
  messages: [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content },
    { role: 'assistant', content: answer },
  ],
});
const judged = (id: string, desirable: boolean): TrainingRow => ({
  id,
  kind: 'labelled',
  prompt: [{ role: 'user', content: 'q' }],
  answer: 'a',
  desirable,
});
const heldOut = (text: string, split: HeldOutInput['split'] = 'test'): HeldOutInput => ({
  suite: 'tickets',
  case: 'c1',
  split,
  text,
});
const kindsOf = (rows: readonly TrainingRow[], cases: readonly HeldOutInput[] = []): string[] =>
  lintRows(rows, cases).map(({ kind, severity, ids }) => `${kind} ${severity} ${ids.join(' ')}`);

describe('lint', () => {
  it('finds inputs that are nearly the same, and not those that share a little', () => {
    const text = words('w', 0, 40);
    const rows = [
      row('a', text),
      row('b', `${text} and more`),
      row('c', words('w', 20, 40)),
      row('d', words('x', 0, 40)),
    ];
    expect(kindsOf(rows)).toEqual(['near-duplicate warning a b']);
  });

  it('does not call the same input nearly the same', () => {
    expect(kindsOf([row('a', 'Where is it?', 'x'), row('b', 'where  is it?', 'x')])).toEqual(['duplicate warning a b']);
  });

  it('finds an answer that is judged both ways', () => {
    expect(kindsOf([judged('a', true), judged('b', false)])).toEqual(['label-conflict warning a b']);
    expect(kindsOf([judged('a', true), judged('b', true)])).toEqual(['duplicate warning a b']);
  });

  it('finds what a suite asks: the test split as an error, the rest and near ones as warnings', () => {
    const text = words('w', 0, 40);
    expect(kindsOf([row('a', ` ${text.toUpperCase()} `)], [heldOut(text)])).toEqual(['held-out error a']);
    expect(kindsOf([row('a', text)], [heldOut(text, 'validation')])).toEqual(['held-out warning a']);
    expect(kindsOf([row('a', `${text} please`)], [heldOut(text)])).toEqual(['near-held-out warning a']);
    expect(kindsOf([row('a', words('x', 0, 40))], [heldOut(text)])).toEqual([]);
  });

  it('looks at every turn of a conversation, not at the last alone', () => {
    const text = words('w', 0, 40);
    const asked = (id: string, ...contents: string[]): TrainingRow => ({
      id,
      kind: 'messages',
      messages: contents.flatMap((content) => [
        { role: 'user', content },
        { role: 'assistant', content: `answer ${id}` },
      ]),
    });
    expect(kindsOf([asked('a', text, 'Thanks')], [heldOut(text)])).toEqual(['held-out error a']);
    expect(kindsOf([asked('a', `${text} please`, 'Thanks')], [heldOut(text)])).toEqual(['near-held-out warning a']);
    // The test split is found behind a near case of the validation split, and in whichever turn it stands.
    const near = heldOut(`${text} please`, 'validation');
    expect(kindsOf([asked('a', `${text} please`, text)], [near, heldOut(text)])).toEqual(['held-out error a']);
  });

  it('does not forget that a text is of a test because a validation case asks the same', () => {
    const cases = [heldOut('Where is it?'), heldOut('Where is it?', 'validation')];
    expect(kindsOf([row('a', 'Where is it?')], cases)).toEqual(['held-out error a']);
    expect(kindsOf([row('a', 'Where is it?')], cases.reverse())).toEqual(['held-out error a']);
  });

  it('tells inputs apart by their tools and calls', () => {
    const called = (id: string, parcel: number): TrainingRow => ({
      id,
      kind: 'messages',
      messages: [
        { role: 'user', content: 'Where is it?' },
        { role: 'assistant', content: '', toolCalls: [{ id: '', name: 'find', arguments: { parcel } }] },
        { role: 'tool', content: 'ok', name: 'find' },
        { role: 'assistant', content: `Shelf ${parcel}.` },
      ],
    });
    expect(kindsOf([called('a', 1), called('b', 2)])).toEqual([]);
  });

  it('does not call a tool call broken JSON', () => {
    const rows = Array.from({ length: 20 }, (_, index) =>
      row(`r${index}`, `q ${words(`x${index}`, 0, 5)}`, '{"a": 1}'),
    );
    const call = { id: '', name: 'find', arguments: {} };
    const calling: TrainingRow = {
      id: 'c',
      kind: 'messages',
      messages: [
        { role: 'user', content: 'call' },
        { role: 'assistant', content: '', toolCalls: [call] },
      ],
    };
    expect(kindsOf([...rows, calling])).toEqual([]);
    expect(kindsOf([...rows, row('p', 'plain', 'prose')])).toEqual(['not-json warning p']);
  });

  it('tells one warning a kind, with how often, and refuses what a test asks', () => {
    const said: TrainEvent[] = [];
    const rows = [row('a', 'one', 'x'), row('b', 'one', 'x'), row('c', 'two', 'y'), row('d', 'two', 'y')];
    reviewRows(rows, [], (event) => said.push(event));
    expect(said).toEqual([
      {
        type: 'warning',
        code: 'CUPEL_DATA_DUPLICATE_ROWS',
        message: '2 times, first: same input and same answer (rows a, b, c, d)',
      },
    ]);
    expect(() => reviewRows([row('a', 'Where is it?')], [heldOut('where is it?')], () => {})).toThrow(
      expect.objectContaining({
        code: 'CUPEL_DATA_HELD_OUT',
        exit: 4,
        message: 'the input is that of case "c1" of suite "tickets" (test)',
        where: 'rows a',
      }),
    );
  });

  it('looks over 20,000 rows in seconds', () => {
    let state = 1;
    const next = (): number => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0);
    const rows = Array.from({ length: 5000 }, (_, index) =>
      row(`r${index}`, Array.from({ length: 40 }, () => `w${next() % 3000}`).join(' ')),
    );
    const start = process.cpuUsage();
    expect(lintRows(rows)).toEqual([]);
    const { user, system } = process.cpuUsage(start);
    // A quarter of the rows; generous, for machines that are busy.
    expect((user + system) / 1e6).toBeLessThan(3);
  });
});

describe('many rows that are nearly the same', () => {
  it('are one group, found in seconds', () => {
    const text = words('w', 0, 40);
    const rows = Array.from({ length: 4000 }, (_, index) => row(`r${index}`, `${text} ${index}`));
    const start = process.cpuUsage();
    const found = lintRows(rows);
    const { user, system } = process.cpuUsage(start);
    expect(found.map(({ kind, ids }) => [kind, ids.length])).toEqual([['near-duplicate', 4000]]);
    expect((user + system) / 1e6).toBeLessThan(3);
  });
});

describe('similar texts', () => {
  const gramsOf = (text: string): Set<string> => {
    const list = text.split(' ');
    return new Set(Array.from({ length: Math.max(1, list.length - 2) }, (_, i) => list.slice(i, i + 3).join(' ')));
  };
  const similarity = (one: string, other: string): number => {
    const [a, b] = [gramsOf(one), gramsOf(other)];
    const shared = [...a].filter((gram) => b.has(gram)).length;
    return shared / (a.size + b.size - shared);
  };

  it('never calls texts similar that share less, and finds nearly all that share nine tenths', () => {
    let [asked, found] = [0, 0];
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 1e6 }),
        fc.integer({ min: 10, max: 80 }),
        fc.integer({ min: 0, max: 12 }),
        (seed, length, cut) => {
          const text = words('w', seed, length);
          const other = `${text.split(' ').slice(cut).join(' ')} end${seed}`;
          const texts = new SimilarTexts(0.8);
          expect(texts.add(text)).toBe(null);
          const same = texts.add(other) !== null;
          const truth = similarity(text, other);
          if (truth < 0.8) expect(same).toBe(false);
          if (truth < 0.9) return;
          asked++;
          if (same) found++;
        },
      ),
      { numRuns: 300, seed: 3 },
    );
    expect(asked).toBeGreaterThan(20);
    expect(found / asked).toBeGreaterThan(0.97);
  });

  it('sees writing without spaces by its characters', () => {
    const text = '我的包裹三天前就应该到了但是到现在还没有收到请帮我查一下它现在在哪里谢谢';
    const texts = new SimilarTexts(0.8);
    expect(texts.add(text)).toBe(null);
    expect(texts.add(`${text}你`)).toBe(0);
    expect(texts.add(text.split('').reverse().join(''))).toBe(null);
    expect(texts.add('พัสดุของฉันอยู่ที่ไหนตอนนี้ช่วยตรวจสอบให้หน่อยครับขอบคุณมากครับ')).toBe(null);
    expect(texts.add('พัสดุของฉันอยู่ที่ไหนตอนนี้ช่วยตรวจสอบให้หน่อยครับขอบคุณมาก')).toBe(3);
  });

  it('says nothing of texts without words', () => {
    const texts = new SimilarTexts(0.8);
    expect([texts.add('…'), texts.add('?!'), texts.find('')]).toEqual([null, null, null]);
  });
});
