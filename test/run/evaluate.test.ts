import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Run, RunStore } from '../../src/contracts/index.ts';
import { evaluate, type EvaluateOptions } from '../../src/run/index.ts';
import { openRunStore, runText } from '../../src/store/index.ts';
import { canEverything, echoModel } from './echo-model.ts';
import { lookup, sampleCase, sampleSuite } from './sample-suite.ts';

let directory: string;
let attempt = 0;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cupel-run-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

const freshStore = (): RunStore => openRunStore(join(directory, String(attempt++)));
const run = (change: Partial<EvaluateOptions> = {}): Promise<Run> =>
  evaluate({
    model: echoModel(),
    checkpointId: 'echo',
    capabilities: canEverything,
    suite: sampleSuite(),
    split: 'test',
    validators: lookup,
    store: freshStore(),
    seed: 1,
    ...change,
  });

describe('evaluate', () => {
  it('scores every case and reads back a complete run', async () => {
    const result = await run();
    expect(result.complete).toBe(true);
    expect(result.rows).toHaveLength(12);
    expect(result.rows[1]).toEqual({
      version: 1,
      suite: 'echoes',
      layer: 'A',
      split: 'test',
      case: 'c01',
      caseDigest: sampleSuite().splits['test']?.[1]?.digest,
      cluster: 'k1',
      tags: ['t'],
      epoch: 1,
      status: 'ok',
      output: { text: 'WORD 1' },
      usage: { promptTokens: 6, generatedTokens: 6 },
      scores: { same: { value: 1 } },
    });
    expect(result.rows[0]?.scores).toEqual({ same: { value: 0 } });
    expect(result.identity).toMatchObject({
      engine: 'echo@1.0.0',
      validators: ['same@1.0.0'],
      seed: 1,
      epochs: 1,
      cases: { count: 12 },
    });
  });

  it('gives equal bytes whatever the order of completions and the size of batches', async () => {
    const expected = runText(await run());
    for (const order of [1, 2, 3]) {
      for (const concurrency of [1, 5, 12])
        expect(runText(await run({ model: echoModel({ order }), concurrency }))).toBe(expected);
    }
  });

  it('keeps finished rows when it is interrupted, and goes on without asking again', async () => {
    const store = freshStore();
    const controller = new AbortController();
    const cut = echoModel({ order: 5, before: (index) => (index === 5 ? controller.abort() : undefined) });
    await expect(run({ store, model: cut, signal: controller.signal })).rejects.toMatchObject({
      code: 'CUPEL_RUN_INTERRUPTED',
      exit: 130,
      message: 'interrupted after 5 of 12 rows, which are kept',
    });
    const model = echoModel({ order: 9 });
    const resumed = await run({ store, model });
    expect(model.asked).toHaveLength(7);
    expect(runText(resumed)).toBe(runText(await run()));
    const again = echoModel();
    expect(runText(await run({ store, model: again }))).toBe(runText(resumed));
    expect(again.asked).toHaveLength(0);
  });

  it('does not start when it is interrupted before', async () => {
    const model = echoModel();
    await expect(run({ model, signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'CUPEL_RUN_INTERRUPTED' });
    expect(model.asked).toHaveLength(0);
  });

  it('keeps finished rows when the engine fails in the middle', async () => {
    const store = freshStore();
    const broken = echoModel({
      before: (index) => {
        if (index === 3) throw new Error('out of memory');
      },
    });
    await expect(run({ store, model: broken })).rejects.toMatchObject({
      code: 'CUPEL_RUN_ENGINE_FAILED',
      message: 'out of memory',
    });
    const model = echoModel();
    await run({ store, model });
    expect(model.asked).toHaveLength(9);
  });

  it('makes error rows of failed and of missing completions, and scores the others', async () => {
    const { rows } = await run({ model: echoModel({ failing: ['c02@1'], silent: ['c04@1'] }) });
    expect(rows[2]).toMatchObject({
      status: 'error',
      error: { code: 'CUPEL_ECHO_FAILED', message: 'no answer to word 2' },
      output: null,
      scores: {},
    });
    expect(rows[4]).toMatchObject({ status: 'error', error: { code: 'CUPEL_RUN_NO_COMPLETION' }, output: null });
    expect(rows.filter(({ status }) => status === 'ok')).toHaveLength(10);
  });

  it('keeps the failure of a validator apart, with the output', async () => {
    const { rows } = await run({
      suite: sampleSuite({
        validators: [
          { use: 'same', with: {} },
          { use: 'throws', with: {} },
        ],
      }),
    });
    expect(rows[3]).toMatchObject({
      status: 'error',
      error: { code: 'CUPEL_RUN_VALIDATOR_FAILED', message: 'validator throws: cannot read c03' },
      output: { text: 'WORD 3' },
      scores: {},
    });
    expect(rows[4]?.scores).toEqual({ same: { value: 1 }, fine: { value: 1 } });
  });

  it('takes no NaN, no unannounced metric and no metric twice from a validator', async () => {
    const messages = async (uses: readonly string[]): Promise<unknown> =>
      (await run({ limit: 1, suite: sampleSuite({ validators: uses.map((use) => ({ use, with: {} })) }) })).rows[0]
        ?.error?.message;
    expect(await messages(['nan'])).toBe('validator nan: "nan" is NaN');
    expect(await messages(['stray'])).toBe('validator stray: it emitted "b", which it does not announce');
    expect(await messages(['same', 'same'])).toBe('validator same: "same" was emitted before');
  });

  it('runs the validators of a case after those of the suite', async () => {
    const item = sampleCase('c99', { word: 'x' }, { validators: [{ use: 'throws', with: {} }] });
    const { rows, identity } = await run({ suite: sampleSuite({ splits: { test: [item] } }) });
    expect(Object.keys(rows[0]?.scores ?? {})).toEqual(['fine', 'same']);
    expect(identity.validators).toEqual(['same@1.0.0', 'throws@1.0.0']);
  });

  it('puts a field of the input in place once, and worked examples between system message and case', async () => {
    const model = echoModel();
    const prompt = {
      messages: [
        { role: 'system' as const, content: 'Say it.' },
        { role: 'user' as const, content: 'a {{word}} b {{n}}' },
      ],
      fewShot: [{ input: { word: 'shot', n: { b: 1, a: [true] } }, output: 'SHOT' }],
    };
    await run({
      model,
      suite: sampleSuite({ prompt, splits: { test: [sampleCase('x', { word: '{{n}} $& <|end|>', n: 3 })] } }),
    });
    expect(model.asked[0]?.prompt).toEqual({
      messages: [
        { role: 'system', content: 'Say it.' },
        { role: 'user', content: 'a shot b {"a":[true],"b":1}' },
        { role: 'assistant', content: 'SHOT' },
        { role: 'user', content: 'a {{n}} $& <|end|> b 3' },
      ],
    });
    await run({
      model,
      variant: { fewShot: false },
      suite: sampleSuite({ prompt, splits: { test: [sampleCase('x', { word: 'w', n: 3 })] } }),
    });
    expect(model.asked[1]?.prompt).toMatchObject({ messages: [{ role: 'system' }, { content: 'a w b 3' }] });
  });

  it('refuses a template field that a case lacks, also one that every object inherits, before anything runs', async () => {
    const model = echoModel();
    const suite = (content: string): ReturnType<typeof sampleSuite> =>
      sampleSuite({ prompt: { messages: [{ role: 'user', content }] } });
    await expect(run({ model, suite: suite('{{wrod}}') })).rejects.toMatchObject({
      code: 'CUPEL_RUN_PROMPT_FIELD_UNKNOWN',
      message: 'the input has no field "wrod"; did you mean "word"? (it has: word)',
      where: 'suites/echoes: case c00',
    });
    await expect(run({ model, suite: suite('{{constructor}}') })).rejects.toMatchObject({
      code: 'CUPEL_RUN_PROMPT_FIELD_UNKNOWN',
    });
    await expect(run({ model, suite: suite('{{word.length}}') })).rejects.toMatchObject({
      code: 'CUPEL_RUN_PROMPT_INVALID',
    });
    expect(model.asked).toHaveLength(0);
  });

  it('refuses by name what the engine cannot do', async () => {
    await expect(run({ capabilities: { ...canEverything, generate: false } })).rejects.toMatchObject({
      code: 'CUPEL_RUN_ENGINE_CANNOT',
      message: 'engine echo@1.0.0 cannot generate, which suite echoes needs',
    });
    const suite = sampleSuite({ decoding: { maxTokens: 8, jsonSchema: { type: 'object' } } });
    await expect(run({ suite, capabilities: { ...canEverything, jsonSchema: false } })).rejects.toMatchObject({
      message: 'engine echo@1.0.0 cannot jsonSchema, which suite echoes needs',
    });
    expect(
      (await run({ suite, capabilities: { ...canEverything, jsonSchema: false }, variant: { constrained: false } }))
        .complete,
    ).toBe(true);
  });

  it('gives free and constrained, limited and whole runs identities of their own', async () => {
    const suite = sampleSuite({ decoding: { maxTokens: 8, jsonSchema: { type: 'object' } } });
    const store = freshStore();
    const ids = [
      await run({ suite, store }),
      await run({ suite, store, variant: { constrained: false } }),
      await run({ suite, store, limit: 3 }),
      await run({ suite, store, filter: ({ cluster }) => cluster === 'k0' }),
      await run({ suite, store, seed: 2 }),
    ].map(({ identity }) => identity.id);
    expect(new Set(ids).size).toBe(5);
    expect((await store.read(ids[2] ?? '')).rows).toHaveLength(3);
  });

  it('runs epochs as rows of their own', async () => {
    const { rows } = await run({ epochs: 2, limit: 2 });
    expect(rows.map((row) => `${row.case}@${row.epoch}`)).toEqual(['c00@1', 'c00@2', 'c01@1', 'c01@2']);
  });

  it('tells bad selections by their codes', async () => {
    await expect(run({ split: 'tset' })).rejects.toMatchObject({
      code: 'CUPEL_RUN_SPLIT_UNKNOWN',
      message: 'suite echoes has no split "tset"; did you mean "test"? (it has: test)',
    });
    await expect(run({ split: 'constructor' })).rejects.toMatchObject({ code: 'CUPEL_RUN_SPLIT_UNKNOWN' });
    await expect(run({ filter: () => false })).rejects.toMatchObject({ code: 'CUPEL_RUN_NO_CASES' });
    await expect(run({ limit: 0 })).rejects.toMatchObject({ code: 'CUPEL_RUN_OPTION_INVALID' });
    await expect(run({ seed: Number.NaN })).rejects.toMatchObject({ code: 'CUPEL_RUN_OPTION_INVALID' });
    const twice = sampleSuite({ splits: { test: [sampleCase('a', { word: 'x' }), sampleCase('a', { word: 'y' })] } });
    await expect(run({ suite: twice })).rejects.toMatchObject({ code: 'CUPEL_RUN_CASE_DUPLICATE' });
    await expect(run({ suite: sampleSuite({ task: 'pairwise' }) })).rejects.toMatchObject({
      code: 'CUPEL_RUN_TASK_UNSUITED',
    });
    await expect(run({ suite: sampleSuite({ task: 'episode' }) })).rejects.toMatchObject({
      code: 'CUPEL_RUN_TASK_UNSUITED',
    });
  });

  it('adds little to a run of 600 cases, even on a busy machine', async () => {
    const cases = Array.from({ length: 600 }, (_, index) => sampleCase(`c${index}`, { word: `word ${index}` }));
    const start = performance.now();
    await run({ suite: sampleSuite({ splits: { test: cases } }) });
    expect(performance.now() - start).toBeLessThan(3000);
  });
});
