import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Judge, JudgeVerdict, PlayEpisodes, Run, RunStore, Suite } from '../../src/contracts/index.ts';
import { defineJudge } from '../../src/kit/index.ts';
import {
  comparePairwise,
  evaluate,
  evaluateReference,
  type EvaluateOptions,
  type PairwiseResult,
} from '../../src/run/index.ts';
import { openRunStore, runText } from '../../src/store/index.ts';
import { canEverything, echoModel } from './echo-model.ts';
import { lookup, sampleCase, sampleSuite } from './sample-suite.ts';

let directory: string;
let store: RunStore;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cupel-tasks-'));
  store = openRunStore(directory);
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

const common = (): { store: RunStore; validators: typeof lookup; seed: number; split: string } => ({
  store,
  validators: lookup,
  seed: 1,
  split: 'test',
});
const run = (change: Partial<EvaluateOptions>): Promise<Run> =>
  evaluate({
    ...common(),
    model: echoModel(),
    checkpointId: 'echo',
    capabilities: canEverything,
    suite: sampleSuite(),
    ...change,
  });

describe('a choice suite', () => {
  const suite = sampleSuite({
    layer: 'B',
    task: 'choice',
    prompt: {
      messages: [{ role: 'user', content: 'Q: {{question}}\nA:' }],
      fewShot: [{ input: { question: 'one?' }, output: ' yes' }],
    },
    splits: {
      test: [
        sampleCase('a', { question: 'two?', options: [' no', ' maybe so'] }, { target: ' maybe so' }),
        sampleCase('b', { question: 'three?', options: [' ünïcode😀', ' no', ' x'] }, { target: ' no' }),
      ],
    },
  });

  it('scores each option after the plain context, and chooses the likeliest', async () => {
    const seen: string[] = [];
    const model = echoModel({
      score: ({ context, continuation }) => {
        seen.push(context + continuation);
        return continuation === ' no' ? [-2] : [-0.25, -0.5];
      },
    });
    const { rows } = await run({ suite, model });
    expect(seen[0]).toBe('Q: one?\nA: yes\n\nQ: two?\nA: no');
    expect(rows[0]).toMatchObject({
      output: {
        text: ' maybe so',
        options: [
          { text: ' no', logLikelihood: -2, characters: 2, tokens: 1 },
          { text: ' maybe so', logLikelihood: -0.75, characters: 8, tokens: 2 },
        ],
      },
      scores: { same: { value: 1 } },
      usage: { generatedTokens: 0 },
    });
    expect(rows[1]?.output?.options?.[0]?.characters).toBe(8);
    expect(rows[1]?.output?.text).toBe(' ünïcode😀');
  });

  it('gives equal bytes whatever the batch', async () => {
    const texts: string[] = [];
    for (const concurrency of [1, 2, 32])
      texts.push(runText(await run({ suite, concurrency, store: openRunStore(join(directory, String(concurrency))) })));
    expect(new Set(texts).size).toBe(1);
  });

  it('finds the one case that cannot be scored', async () => {
    const model = echoModel({
      score: ({ context }) => {
        if (context.includes('two')) throw new Error('too long');
        return [-1];
      },
    });
    const { rows } = await run({ suite, model });
    expect(rows[0]).toMatchObject({
      status: 'error',
      error: { code: 'CUPEL_RUN_SCORE_INVALID', message: 'too long' },
      output: null,
    });
    expect(rows[1]?.status).toBe('ok');
    const { rows: bad } = await run({
      suite,
      seed: 2,
      model: echoModel({ score: ({ continuation }) => (continuation === ' x' ? [Number.NEGATIVE_INFINITY] : [-1]) }),
    });
    expect(bad[1]).toMatchObject({
      status: 'error',
      error: {
        code: 'CUPEL_RUN_SCORE_INVALID',
        message: 'the log-likelihood of option 2 is not a finite number over at least one token',
      },
    });
  });

  it('stops when nothing can be scored', async () => {
    const model = echoModel({
      score: () => {
        throw new Error('closed');
      },
    });
    await expect(run({ suite, model })).rejects.toMatchObject({ code: 'CUPEL_RUN_ENGINE_FAILED', message: 'closed' });
  });

  it('refuses missing, single, equal and empty options, an engine that cannot score, and more than one message', async () => {
    for (const options of [undefined, [' a'], [' a', ' a'], [' a', ' '], [' a', 3], ' ab']) {
      await expect(
        run({ suite: { ...suite, splits: { test: [sampleCase('a', { question: 'q', options })] } } }),
      ).rejects.toMatchObject({ code: 'CUPEL_RUN_OPTIONS_INVALID', where: 'suites/echoes: case a' });
    }
    await expect(run({ suite, capabilities: { ...canEverything, score: false } })).rejects.toMatchObject({
      code: 'CUPEL_RUN_ENGINE_CANNOT',
    });
    const chat = sampleSuite({
      task: 'choice',
      splits: suite.splits,
      prompt: {
        messages: [
          { role: 'system', content: 'x' },
          { role: 'user', content: '{{question}}' },
        ],
      },
    });
    await expect(run({ suite: chat })).rejects.toMatchObject({ code: 'CUPEL_RUN_PROMPT_INVALID' });
  });
});

/** A player of one exchange: the episode is done when the answer is DONE; case `broken` cannot be played. */
const play: PlayEpisodes = async function* (_, cases, generate, options) {
  const requests = cases
    .filter(({ id }) => id !== 'broken')
    .map(({ id, input }) => ({
      id: `${id}#1`,
      prompt: { messages: [{ role: 'user' as const, content: String(input['word']) }] },
      maxTokens: 4,
    }));
  for await (const { id, text, usage } of generate(requests, options?.signal)) {
    yield { case: id.slice(0, -2), output: { text, state: { done: text === 'DONE' } }, usage };
  }
  if (cases.some(({ id }) => id === 'broken'))
    yield {
      case: 'broken',
      output: null,
      error: { code: 'CUPEL_AGENT_WORLD', message: 'no such world' },
      usage: { promptTokens: 0, generatedTokens: 0 },
    };
};

describe('an episode suite', () => {
  const suite = sampleSuite({
    layer: 'D',
    task: 'episode',
    validators: [{ use: 'state', with: {} }],
    splits: { test: ['done', 'other', 'broken'].map((word) => sampleCase(word, { word, wish: 'DONE' })) },
  });

  it('goes through the port and scores the final state', async () => {
    const { rows } = await run({ suite, playEpisodes: play, model: echoModel({ order: 3 }) });
    expect(rows.map((row) => [row.case, row.status, row.scores['done']?.value])).toEqual([
      ['broken', 'error', undefined],
      ['done', 'ok', 1],
      ['other', 'ok', 0],
    ]);
  });

  it('plays references as pseudo checkpoints', async () => {
    const idle = await evaluateReference({
      ...common(),
      suite,
      playEpisodes: play,
      reference: { id: 'do-nothing', title: 'Do nothing', output: { text: '' } },
    });
    const obedient = await evaluateReference({
      ...common(),
      suite,
      playEpisodes: play,
      reference: { id: 'obey-all', title: 'Obey all', output: { inputField: 'wish' } },
    });
    expect(idle.identity).toMatchObject({ checkpoint: { id: 'reference:do-nothing' }, engine: 'reference' });
    expect(idle.rows.map((row) => row.scores['done']?.value)).toEqual([undefined, 0, 0]);
    expect(obedient.rows.map((row) => row.scores['done']?.value)).toEqual([undefined, 1, 1]);
    expect(idle.identity.id).not.toBe(obedient.identity.id);
  });
});

describe('a reference on a generate suite', () => {
  it('answers with its fixed text or the field of the input', async () => {
    const fixed = await evaluateReference({
      ...common(),
      suite: sampleSuite(),
      reference: { id: 'fixed', title: 'Fixed', output: { text: 'other' } },
    });
    expect(fixed.rows.filter((row) => row.scores['same']?.value === 1)).toHaveLength(4);
    const field = await evaluateReference({
      ...common(),
      suite: sampleSuite(),
      reference: { id: 'field', title: 'Field', output: { inputField: 'word' } },
    });
    expect(field.rows[2]?.output?.text).toBe('word 2');
    await expect(
      evaluateReference({
        ...common(),
        suite: sampleSuite(),
        reference: { id: 'x', title: 'X', output: { inputField: 'toString' } },
      }),
    ).rejects.toMatchObject({ code: 'CUPEL_RUN_REFERENCE_INVALID', where: 'suites/echoes: case c00' });
  });
});

describe('a pairwise comparison', () => {
  const pairSuite: Suite = sampleSuite({
    id: 'pairs',
    layer: 'C',
    task: 'pairwise',
    prompt: { messages: [{ role: 'user', content: 'Sum up: {{word}}' }] },
    validators: [],
    pairwise: { judge: 'longest', of: 'echoes', field: 'summary', calibrated: false },
  });

  /** Prefers the longer answer by 0.9; `bias` is added to whatever stands second. Silent on word 5, absurd on word 6. */
  const judgeWith = (bias: number, asked: string[] = []): Judge =>
    defineJudge({
      summary: 'longer is better',
      version: '1.0.0',
      judge: async (pairs) =>
        pairs.map((pair): JudgeVerdict => {
          asked.push(pair.id);
          if (pair.prompt === 'Sum up: word 5') return { id: pair.id, preferSecond: null };
          if (pair.prompt === 'Sum up: word 6') return { id: pair.id, preferSecond: 1.5 };
          const difference = Math.sign(pair.second.length - pair.first.length);
          return { id: pair.id, preferSecond: Math.min(1, Math.max(0, 0.5 + 0.4 * difference + bias)) };
        }),
    });

  const runWith = async (id: string, answer: (index: number) => string): Promise<Run> => {
    const base = await run({ checkpointId: id });
    return { ...base, rows: base.rows.map((row, index) => ({ ...row, output: { text: answer(index) } })) };
  };
  const compare = async (judge: Judge, change: object = {}): Promise<PairwiseResult> =>
    comparePairwise({
      suite: pairSuite,
      split: 'test',
      baselineRun: await runWith('base', (index) => (index === 9 ? 'not json' : JSON.stringify({ summary: 'ab' }))),
      candidateRun: await runWith('new', (index) =>
        JSON.stringify({ summary: index === 7 ? '😀' : index === 8 ? 'ba' : 'abc' }),
      ),
      judge,
      judgeModel: echoModel(),
      store,
      ...change,
    });

  it('asks both orders of each pair and averages them, so that a bias for a place cancels', async () => {
    const asked: string[] = [];
    const result = await compare(judgeWith(0.1, asked));
    expect(asked).toHaveLength(22);
    expect(asked.slice(0, 2)).toEqual(['c00/forward', 'c00/backward']);
    expect(result.run.identity).toMatchObject({
      checkpoint: { id: 'new' },
      suite: { id: 'pairs' },
      decoding: { judge: 'longest@1.0.0' },
    });
    expect(result.run.rows[0]?.scores).toMatchObject({
      win: { value: 0.9 },
      length_difference: { value: 1 },
      order_consistent: { value: 1 },
    });
    expect(result.run.rows[8]?.scores).toMatchObject({
      win: { value: 0.5 },
      length_difference: { value: 0 },
      order_consistent: { value: 0 },
    });
  });

  it('counts code points, missing answers and missing verdicts, and never counts them as wins', async () => {
    const result = await compare(judgeWith(0));
    expect(result.missing).toBe(3);
    expect(result.inconsistentOrders).toBe(0);
    expect(result.points).toHaveLength(9);
    expect(result.points.find((point) => point.case === 'c07')).toEqual({
      case: 'c07',
      cluster: 'k3',
      lengthDifference: -1,
      preference: 0.5,
    });
    expect(result.run.rows[9]?.scores).toEqual({ win: { value: null, explanation: 'the baseline has not an answer' } });
    expect(result.run.rows[5]?.scores['win']).toEqual({
      value: null,
      explanation: 'the judge gave no verdict in one order or both',
    });
    expect(result.run.rows[6]?.scores['win']?.value).toBeNull();
  });

  it('gives equal bytes whatever the batch, and goes on after an interruption', async () => {
    const whole = await compare(judgeWith(0.1));
    for (const concurrency of [1, 5])
      expect(
        runText(
          (await compare(judgeWith(0.1), { concurrency, store: openRunStore(join(directory, `c${concurrency}`)) })).run,
        ),
      ).toBe(runText(whole.run));
    const controller = new AbortController();
    const inner = judgeWith(0.1);
    let calls = 0;
    const cut: Judge = {
      ...inner,
      judge: async (pairs, services) => (++calls === 3 ? (controller.abort(), []) : inner.judge(pairs, services)),
    };
    const other = openRunStore(join(directory, 'other'));
    await expect(compare(cut, { store: other, concurrency: 2, signal: controller.signal })).rejects.toMatchObject({
      code: 'CUPEL_RUN_INTERRUPTED',
    });
    const asked: string[] = [];
    expect(runText((await compare(judgeWith(0.1, asked), { store: other })).run)).toBe(runText(whole.run));
    expect(asked[0]).toBe('c04/forward');
  });

  it('refuses runs of another suite, another split, or not complete, and tells a judge that fails', async () => {
    const other = await run({ suite: sampleSuite({ id: 'strange' }) });
    await expect(compare(judgeWith(0), { baselineRun: other })).rejects.toMatchObject({
      code: 'CUPEL_RUN_PAIRS_UNSUITED',
    });
    await expect(compare(judgeWith(0), { baselineRun: { ...(await run({})), complete: false } })).rejects.toMatchObject(
      { code: 'CUPEL_RUN_PAIRS_UNSUITED' },
    );
    await expect(
      compare({ ...judgeWith(0), judge: async () => Promise.reject(new Error('no')) }),
    ).rejects.toMatchObject({ code: 'CUPEL_RUN_JUDGE_FAILED', message: 'no' });
  });
});
