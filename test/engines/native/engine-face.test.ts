import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import native from '../../../engines/native/index.ts';
import type { Completion, GenerateRequest, GenerateStream, Model, ScoreRequest } from '../../../src/contracts/index.ts';
import { isCupelError } from '../../../src/kit/index.ts';
import { writeTinyCheckpoint } from '../../support/tiny-checkpoint.ts';

let path: string;
let scratch: string;
let model: Model;

beforeAll(async () => {
  path = await writeTinyCheckpoint({ seed: 5, scale: 0.4 });
  scratch = await mkdtemp(join(tmpdir(), 'cupel-face-'));
  model = await native.open({ id: 'tiny', path }, { threads: 2, maxBatch: 8 });
});
afterAll(async () => {
  await model.close();
  for (const folder of [path, scratch]) await rm(folder, { recursive: true });
});

async function collect(
  requests: readonly GenerateRequest[],
  { from = model, signal, stream }: { from?: Model; signal?: AbortSignal; stream?: GenerateStream } = {},
): Promise<Completion[]> {
  const found: Completion[] = [];
  for await (const completion of from.generate(requests, signal, stream)) found.push(completion);
  return found.sort((a, b) => (a.id < b.id ? -1 : 1));
}

const text = '<|user|>Where is order KX-12345? é 水<|end|><|assistant|>';
const request = (id: string, more: Partial<GenerateRequest> = {}): GenerateRequest => ({
  id,
  prompt: { text },
  maxTokens: 24,
  ...more,
});
const textsOf = (completions: readonly Completion[]): string[] => completions.map((completion) => completion.text);

async function refusals(requests: readonly Partial<GenerateRequest>[]): Promise<(string | undefined)[]> {
  const found = await collect(requests.map((more, index) => request(`${index}`.padStart(2, '0'), more)));
  return found.map(({ finish, error }) => (finish === 'error' ? error?.code : finish));
}

describe('prompts', () => {
  it('of token ids are those of their text', async () => {
    const ids = model.tokenize(text);
    const [fromIds, fromText] = await collect([request('a', { prompt: { ids } }), request('b')]);
    expect(fromIds?.text).toBe(fromText?.text);
    expect(fromIds?.usage.promptTokens).toBe(ids.length);
  });

  it('of ids that are none are refused by code, whatever a 32-bit number would make of them', async () => {
    expect(
      await refusals([
        { prompt: { ids: [] } },
        { prompt: { ids: [-1] } },
        { prompt: { ids: [0.5] } },
        { prompt: { ids: [2 ** 32 + 1] } },
        { prompt: { ids: [Number.NaN] } },
        { prompt: { ids: [model.vocabularySize] } },
        { prompt: { ids: [2 ** 32 - 1] } },
      ]),
    ).toEqual([
      ...Array.from({ length: 5 }, () => 'CUPEL_NATIVE_REQUEST_INVALID'),
      ...Array.from({ length: 2 }, () => 'CUPEL_NATIVE_TOKEN_OUT_OF_RANGE'),
    ]);
  });

  it('say how long they waited, were read, and were answered', async () => {
    const [found] = await collect([request('a')]);
    for (const time of [found?.usage.queueMs, found?.usage.prefillMs, found?.usage.decodeMs]) {
      expect(time).toBeGreaterThanOrEqual(0);
      expect(time).toBeLessThan(60_000);
    }
  });
});

describe('scores of token ids', () => {
  it('are those of the texts', async () => {
    const [context, continuation] = ['The order ', 'is late'];
    const contextIds = model.tokenize(context);
    const continuationIds = model.tokenize(context + continuation).slice(contextIds.length);
    const [ofIds, ofText] = await model.score([
      { contextIds, continuationIds },
      { context, continuation },
    ]);
    expect(ofIds).toEqual(ofText);
    expect(ofIds?.logProbabilities).toHaveLength(continuationIds.length);
  });

  it('are refused without a context, or with ids that are none', async () => {
    const bad: ScoreRequest[] = [
      { contextIds: [], continuationIds: [1] },
      { contextIds: [1], continuationIds: [-1] },
      { contextIds: [1], continuationIds: [model.vocabularySize] },
      { contextIds: [1], continuationIds: [2], adapter: 'none' },
    ];
    for (const one of bad) {
      await expect(model.score([one])).rejects.toMatchObject({ code: expect.stringMatching(/^CUPEL_NATIVE_/) });
    }
    expect(await model.score([{ contextIds: [1], continuationIds: [] }])).toEqual([
      { logProbabilities: [], isGreedy: [] },
    ]);
  });
});

describe('sampling', () => {
  const sampled = (id: string, seed: number, more: object = {}): GenerateRequest =>
    request(id, { sampling: { temperature: 1.2, seed, ...more } });

  it('gives a request the same text alone and beside others, and another seed another text', async () => {
    const requests = Array.from({ length: 10 }, (_, index) => sampled(`s${index}`, index));
    const together = textsOf(await collect(requests));
    const other = await native.open({ id: 'tiny', path }, { threads: 1, maxBatch: 1 });
    expect(textsOf(await collect([...requests].reverse(), { from: other }))).toEqual(together);
    await other.close();
    expect(new Set(together).size).toBeGreaterThan(7);
    const [again] = await collect([sampled('s3', 3)]);
    expect(again?.text).toBe(together[3]);
  });

  it('at temperature 0, or with the likeliest token alone, is greedy', async () => {
    const [greedy, zero, one, peak] = await collect([
      request('a'),
      request('b', { sampling: { temperature: 0, seed: 9 } }),
      sampled('c', 1, { topK: 1 }),
      sampled('d', 2, { minP: 1 }),
    ]);
    expect([zero?.text, one?.text, peak?.text]).toEqual([greedy?.text, greedy?.text, greedy?.text]);
  });

  it('obeys biases: what is forbidden never comes, what is pushed always does', async () => {
    const [x, y] = [model.tokenize('x')[0] ?? 0, model.tokenize('y')[0] ?? 0];
    const biased = (id: string, temperature: number, logitBias: Record<number, number>): GenerateRequest =>
      request(id, { maxTokens: 5, sampling: { temperature, seed: 4, logitBias } });
    const [pushed, forbidden, only] = await collect([
      biased('a', 0, { [x]: 900, [y]: 1000 }),
      biased('b', 0, { [x]: 900, [y]: -1000 }),
      biased('c', 1, { [x]: 1000 }),
    ]);
    expect([pushed?.text, forbidden?.text]).toEqual(['yyyyy', 'xxxxx']);
    expect(only?.text).toBe('xxxxx');
  });

  it('refuses values out of range, each by its name', async () => {
    const bad: [string, object][] = [
      ['temperature', { temperature: -1 }],
      ['temperature', { temperature: Number.NaN }],
      ['topK', { topK: 0 }],
      ['topP', { topP: 0 }],
      ['topP', { topP: 1.1 }],
      ['minP', { minP: 2 }],
      ['repetitionPenalty', { repetitionPenalty: 0 }],
      ['presencePenalty', { presencePenalty: 1000 }],
      ['frequencyPenalty', { frequencyPenalty: -1000 }],
      ['seed', { seed: -1 }],
      ['seed', { seed: 1.5 }],
      ['logitBias', { logitBias: { x: 1 } }],
      ['logitBias.3', { logitBias: { 3: Number.POSITIVE_INFINITY } }],
    ];
    const found = await collect(bad.map(([, more], index) => sampled(`${index}`.padStart(2, '0'), 1, more)));
    for (const [index, [name]] of bad.entries()) {
      expect(found[index]?.error?.code, name).toBe('CUPEL_NATIVE_REQUEST_INVALID');
      expect(found[index]?.error?.message, name).toContain(name);
    }
  });
});

describe('grammars', () => {
  it('hold completions to a regular expression or a Lark grammar', async () => {
    const found = await collect([
      request('a', { grammar: { regex: '[a-c]{3}-[0-9]{2}' } }),
      request('b', { grammar: { lark: 'start: ("yes" | "no") " " /[0-9]{4}/' } }),
      request('c', { grammar: { regex: '(left|right)' }, sampling: { temperature: 2, seed: 3 } }),
    ]);
    expect(found[0]?.text).toMatch(/^[a-c]{3}-[0-9]{2}$/);
    expect(found[1]?.text).toMatch(/^(yes|no) [0-9]{4}$/);
    expect(found[2]?.text).toMatch(/^(left|right)$/);
    expect(found.map(({ finish }) => finish)).toEqual(['stop', 'stop', 'stop']);
  });

  it('can be checked before anything is asked', async () => {
    await model.checkConstraint?.({});
    await model.checkConstraint?.({ jsonSchema: { type: 'object' } });
    await model.checkConstraint?.({ grammar: { regex: '[a-z]+' } });
    await expect(model.checkConstraint?.({ jsonSchema: { type: 'array', uniqueItems: true } })).rejects.toMatchObject({
      code: 'CUPEL_NATIVE_SCHEMA_UNSUPPORTED',
      message: expect.stringContaining('uniqueItems'),
    });
    await expect(model.checkConstraint?.({ grammar: { regex: '(' } })).rejects.toMatchObject({
      code: 'CUPEL_NATIVE_GRAMMAR_UNSUPPORTED',
    });
  });

  it('that are none, or stand beside a schema, are refused by code', async () => {
    expect(
      await refusals([
        { grammar: { regex: '(' } },
        { grammar: { lark: 'start: missing' } },
        { grammar: { regex: 'a' }, jsonSchema: { type: 'string' } },
        {},
      ]),
    ).toEqual([
      'CUPEL_NATIVE_GRAMMAR_UNSUPPORTED',
      'CUPEL_NATIVE_GRAMMAR_UNSUPPORTED',
      'CUPEL_NATIVE_REQUEST_INVALID',
      'length',
    ]);
  });
});

describe('streams', () => {
  it('give pieces that are the text together, whole characters, nothing of a stop text', async () => {
    const [plain] = await collect([request('a', { maxTokens: 40 })]);
    const letters = Array.from(plain?.text ?? '');
    const stop = letters.slice(8, 11).join('');
    const requests = [
      request('a', { maxTokens: 40 }),
      request('b', { maxTokens: 40, stop: [stop, 'never to be seen'] }),
      ...Array.from({ length: 6 }, (_, index) =>
        request(`s${index}`, { maxTokens: 40, sampling: { temperature: 1.5, seed: index } }),
      ),
    ];
    const pieces = new Map<string, string[]>();
    const streamed = await collect(requests, {
      stream: { onText: (id, piece) => pieces.set(id, [...(pieces.get(id) ?? []), piece]) },
    });
    expect(textsOf(streamed)).toEqual(textsOf(await collect(requests)));
    for (const { id, text: whole } of streamed) {
      const given = pieces.get(id) ?? [];
      expect(given.join(''), id).toBe(whole);
      for (const piece of given) expect(Buffer.from(piece, 'utf8').toString('utf8')).toBe(piece);
      if (id === 'a') expect(given.length).toBeGreaterThan(3);
    }
    expect(streamed.find(({ id }) => id === 'b')?.text).toBe(plain?.text.slice(0, plain.text.indexOf(stop)));
  });
});

describe('calls at the same time', () => {
  it('give what they give one after the other, and end each with its own answers', async () => {
    const calls = Array.from({ length: 6 }, (_, call) =>
      Array.from({ length: 5 }, (__, index) =>
        request(`c${call}-${index}`, { prompt: { text: `${text}${'again '.repeat((call * index) % 7)}` } }),
      ),
    );
    const pair = [{ context: 'The order ', continuation: 'is late' }];
    const alone: string[][] = [];
    for (const requests of calls) alone.push(textsOf(await collect(requests)));
    const score = await model.score(pair);
    const [scores, ...together] = await Promise.all([
      model.score(pair),
      ...calls.map(async (requests) => textsOf(await collect(requests))),
    ]);
    expect(together).toEqual(alone);
    expect(scores).toEqual(score);
  });

  it('are stopped one by one: the others go on', async () => {
    const controller = new AbortController();
    const long = Array.from({ length: 16 }, (_, index) => request(`long${index}`, { maxTokens: 60 }));
    // With the first piece of text: before any completion, however fast the machine is.
    const stream = { onText: () => controller.abort(new Error('enough')) };
    const stopped = collect(long, { signal: controller.signal, stream });
    const kept = collect(long);
    await expect(stopped).rejects.toThrow('enough');
    expect(await kept).toHaveLength(16);
  });

  it('that the model is closed under are answered, not forgotten', async () => {
    const other = await native.open({ id: 'tiny', path }, { threads: 1 });
    const running = collect([request('a', { maxTokens: 60 }), request('b')], { from: other });
    await Promise.resolve();
    await other.close();
    expect(await running).toHaveLength(2);
    await expect(collect([request('c')], { from: other })).rejects.toMatchObject({ code: 'CUPEL_NATIVE_CLOSED' });
  });
});

describe('opening', () => {
  it('records what can change a result, as it was asked for', async () => {
    expect(model.settings).toEqual({ weights: 'as-stored', kvCache: 'default' });
    const other = await native.open({ id: 'tiny', path }, { weights: 'q8_0', kvCache: 'f16', stepTokens: 7 });
    expect(other.settings).toEqual({ weights: 'q8_0', kvCache: 'f16' });
    expect(other.digest).toBe(model.digest);
    await other.close();
  });

  it('refuses options that can not be, each by its name', async () => {
    const bad: [string, object][] = [
      ['threads', { threads: 0 }],
      ['maxBatch', { maxBatch: 1.5 }],
      ['weights', { weights: 'q2_k' }],
      ['kvCache', { kvCache: 'q4_0' }],
      ['kvCacheBytes', { kvCacheBytes: 0 }],
      ['kvCacheBytes', { kvCacheBytes: 10 }],
      ['stepTokens', { stepTokens: -1 }],
      ['adapters.a', { adapters: { a: 'relative/folder' } }],
    ];
    for (const [name, options] of bad) {
      await expect(native.open({ id: 'tiny', path }, options), name).rejects.toMatchObject({
        code: 'CUPEL_NATIVE_REQUEST_INVALID',
        where: name,
      });
    }
  });
});

describe('GGUF checkpoints', () => {
  it('say what the folder says that they were written from, as a file and as a folder with one', async () => {
    const file = join(scratch, 'tiny.gguf');
    const report = await native.quantize?.({ id: 'tiny', path }, { path: file, type: 'f32', preTokenizer: 'gpt-2' });
    expect(report?.types.map(({ type }) => type)).toEqual(['f32']);
    expect(await native.accepts({ id: 'file', path: file })).toBe(true);
    const folder = await mkdtemp(join(scratch, 'folder-'));
    expect(await native.accepts({ id: 'folder', path: folder })).toBe(false);
    await copyFile(file, join(folder, 'tiny.gguf'));
    expect(await native.accepts({ id: 'folder', path: folder })).toBe(true);
    const requests = [
      request('a'),
      request('b', { prompt: { messages: [{ role: 'user', content: 'Where? <|end|>' }] } }),
    ];
    const expected = textsOf(await collect(requests));
    const digests: string[] = [];
    for (const place of [file, folder]) {
      const other = await native.open({ id: 'gguf', path: place }, { threads: 1 });
      expect(textsOf(await collect(requests, { from: other }))).toEqual(expected);
      expect(other.tokenize(text)).toEqual(model.tokenize(text));
      expect([other.endOfTurn, other.contextLength]).toEqual([model.endOfTurn, model.contextLength]);
      digests.push(other.digest);
      await expect(other.learner?.({})).rejects.toMatchObject({ code: 'CUPEL_NATIVE_REQUEST_INVALID' });
      await other.close();
    }
    expect(new Set(digests).size).toBe(1);
    await copyFile(file, join(folder, 'second.gguf'));
    expect(await native.accepts({ id: 'folder', path: folder })).toBe(false);
  });

  it('that are cut anywhere are refused by a code that names the file', async () => {
    const whole = join(scratch, 'whole.gguf');
    await native.quantize?.({ id: 'tiny', path }, { path: whole, type: 'q8_0', preTokenizer: 'gpt-2' });
    const bytes = await readFile(whole);
    const cut = join(scratch, 'cut.gguf');
    for (const length of [0, 3, 7, 30, 1000, Math.floor(bytes.length / 2), bytes.length - 1]) {
      await writeFile(cut, bytes.subarray(0, length));
      await expect(native.open({ id: 'cut', path: cut }), `${length} bytes`).rejects.toMatchObject({
        code: expect.stringMatching(/^CUPEL_NATIVE_GGUF_/),
        where: expect.stringContaining('cut.gguf'),
      });
    }
  });

  it('of unknown types, and comparisons of nothing, are refused', async () => {
    const refused = async (work: Promise<unknown> | undefined): Promise<unknown> =>
      work?.then(
        () => 'done',
        (error: unknown) => isCupelError(error) && error.code,
      );
    const target = { path: join(scratch, 'x.gguf'), type: 'q3_k' };
    expect(await refused(native.quantize?.({ id: 'tiny', path }, target))).toBe('CUPEL_NATIVE_REQUEST_INVALID');
    const compare = { reference: { path }, candidates: [], text: 'x', window: 8 };
    expect(await refused(native.compare?.(compare))).toBe('CUPEL_NATIVE_REQUEST_INVALID');
    expect(await refused(native.compare?.({ ...compare, text: 'long enough', window: 1 }))).toBe(
      'CUPEL_NATIVE_REQUEST_INVALID',
    );
    expect(await refused(native.compare?.({ ...compare, text: 'long', signal: AbortSignal.abort() }))).toBe(false);
  });
});

describe('comparisons', () => {
  it('measure perplexity as scores give it, and nothing between a model and itself', async () => {
    const words = 'the order is late, the oven is warm, where is order KX-12345? '.repeat(6);
    const [reference, same, other] =
      (await native.compare?.({
        reference: { path, kvCache: 'f32' },
        candidates: [
          { path, kvCache: 'f32' },
          { path, weights: 'w8a8', kvCache: 'q8_0' },
        ],
        text: words,
        window: 32,
      })) ?? [];
    expect(same).toMatchObject({ meanDivergence: 0, maxDivergence: 0, top1Agreement: 1 });
    expect(same?.perplexity).toBe(reference?.perplexity);
    expect(other?.meanDivergence).toBeGreaterThan(0);
    expect(other?.maxDivergence).toBeGreaterThanOrEqual(other?.divergence99 ?? Number.NaN);
    expect(other?.kvCache).toBe('q8_0');
    // By hand: windows of 32 tokens, the first of each is not predicted.
    const ids = model.tokenize(words);
    const windows = Array.from({ length: Math.ceil(ids.length / 32) }, (_, index) =>
      ids.slice(32 * index, 32 * index + 32),
    );
    const scored = await model.score(
      windows
        .filter((window) => window.length > 1)
        .map((window) => ({ contextIds: window.slice(0, 1), continuationIds: window.slice(1) })),
    );
    const values = scored.flatMap(({ logProbabilities }) => logProbabilities);
    expect(reference?.tokens).toBe(values.length);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    expect(Math.log(reference?.perplexity ?? Number.NaN)).toBeCloseTo(-mean, 5);
  });
});
