import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Completion, Model, Trainer, TrainingRow } from '../../src/contracts/index.ts';
import engine from '../../engines/classical/index.ts';
import { readTrainingRows } from '../../src/data/index.ts';
import { isCupelError, packageRoot, writeJson } from '../../src/kit/index.ts';
import keywordRules from '../../trainers/keyword-rules.ts';
import { learnDecisionList } from '../../trainers/lib/decision-list.ts';
import { fitLogistic } from '../../trainers/lib/logistic-regression.ts';
import tfidfLogistic from '../../trainers/tfidf-logistic.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cupel-classical-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const products = ['lamp', 'desk', 'kettle', 'chair', 'drill', 'radio'];
const toy: TrainingRow[] = Array.from({ length: 36 }, (_, index) => {
  const refund = index % 2 === 0;
  const id = index % 3 === 0 ? null : `K${'XYZABC'[index % 6]}-${10000 + index * 37}`;
  const product = `${products[index % 6] ?? ''}${index % 25}`;
  const text = `${refund ? 'I want my money back for the' : 'Please track my parcel with the'} ${product}${id === null ? '' : `, order ${id}`}. Call ${2000 + index}.`;
  const answer = {
    action: refund ? 'refund' : 'track',
    urgent: !refund,
    order_id: id,
    summary: `${refund ? 'money back' : 'where is it'}: ${product}`,
  };
  return {
    id: `t${index}`,
    kind: 'messages',
    messages: [
      { role: 'user', content: text },
      { role: 'assistant', content: writeJson(answer) },
    ],
  };
});

async function trained(trainer: Trainer, data: readonly TrainingRow[], name = 'out'): Promise<Model> {
  const output = join(folder, name);
  await trainer.train(
    {
      id: name,
      base: null,
      model: null,
      openLearner: null,
      openTeacher: null,
      services: null,
      data,
      replay: null,
      parameters: {},
      seed: 1,
      output,
      work: null,
      resume: false,
      validation: null,
    },
    () => {},
  );
  expect(await engine.accepts({ id: name, path: output })).toBe(true);
  return engine.open({ id: name, path: output });
}
async function answers(model: Model, texts: readonly string[]): Promise<string[]> {
  const found: Completion[] = [];
  for await (const completion of model.generate(
    texts.map((content, id) => ({ id: `${id}`, prompt: { messages: [{ role: 'user', content }] }, maxTokens: 100 })),
  ))
    found.push(completion);
  return found.map(({ text }) => text);
}
const trainers: readonly (readonly [string, Trainer])[] = [
  ['keyword-rules', keywordRules],
  ['tfidf-logistic', tfidfLogistic],
];

describe.each(trainers)('%s', (_, trainer) => {
  it('learns labels, ids and prose from rows alone, and answers in their style', async () => {
    const model = await trained(trainer, toy);
    const [refund, track] = await answers(model, [
      'Can I get money back for the lamp? Order QQ-55555, phone 12345.',
      'I would like to track my parcel',
    ]);
    expect(refund).toMatch(
      /^\{"action": "refund", "urgent": false, "order_id": "QQ-55555", "summary": "money back: \w+"\}$/,
    );
    expect(track).toMatch(/^\{"action": "track", "urgent": true, "order_id": null, "summary": "where is it: \w+"\}$/);
  });

  it('does not take an id out of a longer run of letters or digits', async () => {
    const [answer] = await answers(await trained(trainer, toy), ['serial XQQ-555556, money back']);
    expect(answer).toContain('"order_id": null');
  });

  it('learns the 300 training tickets in under 3 CPU seconds and answers 600 in under 1', async () => {
    const data = await readTrainingRows(join(packageRoot(), 'fixtures/tickets/train.jsonl'));
    const start = process.cpuUsage();
    const model = await trained(trainer, data);
    const learning = process.cpuUsage(start).user / 1e6;
    const middle = process.cpuUsage();
    const texts = [...data, ...data].map((row) =>
      row.kind === 'messages' ? (row.messages.find(({ role }) => role === 'user')?.content ?? '') : '',
    );
    const given = await answers(model, texts);
    const answering = process.cpuUsage(middle).user / 1e6;
    const right = given.filter((answer, index) => {
      const row = data[index % data.length];
      const [mine, gold] = [answer, row?.kind === 'messages' ? (row.messages.at(-1)?.content ?? '') : ''].map(
        (text) => JSON.parse(text) as Record<string, unknown>,
      );
      return mine?.['category'] === gold?.['category'];
    });
    expect(right.length / given.length).toBeGreaterThan(0.7);
    expect(learning).toBeLessThan(3);
    expect(answering).toBeLessThan(1);
  });

  it.each([
    ['no rows', []],
    [
      'prose answers',
      [
        {
          id: 'a',
          kind: 'messages',
          messages: [
            { role: 'user', content: 'q' },
            { role: 'assistant', content: 'no' },
          ],
        },
      ],
    ],
    ['plain text', [{ id: 'a', kind: 'text', text: 'x' }]],
    [
      'answers with other fields',
      [
        toy[0] as TrainingRow,
        {
          id: 'a',
          kind: 'messages',
          messages: [
            { role: 'user', content: 'q' },
            { role: 'assistant', content: '{"other": 1}' },
          ],
        },
      ],
    ],
  ] as const)('refuses %s', async (_what, data) => {
    await expect(trained(trainer, data)).rejects.toMatchObject({ code: 'CUPEL_TRAINER_ROWS' });
  });
});

describe('the engine for classical baselines', () => {
  it('does not take folders of others', async () => {
    expect(await engine.accepts({ id: 'x', path: folder })).toBe(false);
    expect(await engine.accepts({ id: 'x', path: '/no/such/folder' })).toBe(false);
  });

  it('refuses to score, and to answer when it is closed', async () => {
    const model = await trained(keywordRules, toy);
    await expect(model.score([{ context: 'a', continuation: 'b' }])).rejects.toMatchObject({
      code: 'CUPEL_CLASSICAL_CANNOT',
    });
    await model.close();
    await model.close();
    await expect(answers(model, ['x'])).rejects.toMatchObject({ code: 'CUPEL_CLASSICAL_CLOSED' });
  });

  it('answers the same whatever stands beside', async () => {
    const model = await trained(tfidfLogistic, toy);
    const texts = ['money back', '', 'track my parcel', 'order AB-12345', '\u0000\ud800', 'x'.repeat(100_000)];
    const together = await answers(model, texts);
    for (const [index, text] of texts.entries()) expect(await answers(model, [text])).toEqual([together[index]]);
  });

  it('meets damaged files with a coded error, never with a crash', async () => {
    await (await trained(tfidfLogistic, toy)).close();
    const file = join(folder, 'out', 'classical.json');
    const good = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;
    const paths = (value: unknown, path: readonly string[] = []): (readonly string[])[] =>
      typeof value === 'object' && value !== null
        ? [
            path,
            ...Object.entries(value)
              .slice(0, 3)
              .flatMap(([key, child]) => paths(child, [...path, key])),
          ]
        : [path];
    const damage = fc.tuple(
      fc.constantFrom(...paths(good).slice(1)),
      fc.constantFrom<unknown>(undefined, null, -1, 1e9, 'x', '(', [], {}, true, [[]]),
    );
    await fc.assert(
      fc.asyncProperty(damage, async ([path, value]) => {
        const copy = structuredClone(good);
        const parent = path
          .slice(0, -1)
          .reduce<Record<string, unknown>>((node, key) => node[key] as Record<string, unknown>, copy);
        parent[path.at(-1) ?? ''] = value;
        await writeFile(file, JSON.stringify(copy));
        try {
          for (const answer of await answers(await engine.open({ id: 'x', path: join(folder, 'out') }), [
            'money back, order AB-12345',
          ]))
            JSON.parse(answer);
        } catch (error) {
          expect(isCupelError(error) ? 'coded' : String(error)).toBe('coded');
        }
      }),
      { numRuns: 150, seed: 5 },
    );
  });
});

describe('a decision list', () => {
  it('puts the surest cue first and falls back to what is left', () => {
    const texts = ['red apple', 'red car', 'blue car', 'green car', 'red bike', 'grey car'];
    expect(learnDecisionList(texts, [1, 1, 0, 0, 1, 0], { maxRules: 5, minTexts: 2 })).toEqual({
      rules: [{ cue: 'red', value: 1 }],
      otherwise: 0,
    });
  });
});

describe('logistic regression', () => {
  it('reaches the optimum: the gradient vanishes and neighbours are worse', () => {
    const rows = [
      { indices: [0], values: [1] },
      { indices: [1], values: [1] },
      { indices: [0, 1], values: [Math.SQRT1_2, Math.SQRT1_2] },
    ];
    const labels = [0, 1, 0];
    const fit = (iterations: number) =>
      fitLogistic(rows, labels, { features: 2, classes: 2 }, { inverseRegularisation: 1, iterations });
    const { weights, losses } = fit(400);
    expect(losses.at(-1)).toBeLessThan(losses[0] ?? 0);
    expect(Math.abs((losses.at(-1) ?? 0) - (losses.at(-50) ?? 0))).toBeLessThan(1e-9);
    // Two classes that share one parameter vector up to sign, by symmetry of the penalty.
    expect(weights[0]).toBeCloseTo(-(weights[1] ?? NaN), 9);
    expect(weights[2]).toBeCloseTo(-(weights[3] ?? NaN), 9);
    expect(weights[0]).toBeGreaterThan(0);
    expect(weights[2]).toBeLessThan(0);
  });
});
