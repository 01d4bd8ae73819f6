import { existsSync, readdirSync, statSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Checkpoint, Completion, Engine, GenerateRequest, Model } from '../../src/contracts/index.ts';
import { compileSchema, isCupelError } from '../../src/kit/index.ts';
import { writeTinyCheckpoint } from '../support/tiny-checkpoint.ts';

// The contract of engines, held on every plugin in engines/: a file, or a folder with an index.ts.
// An engine that opens neither the base nor a Llama folder brings its own: `checkpoints/<id>.ts` exports
// `writeCheckpoint(folder)`.
const root = join(import.meta.dirname, '../..');
const engines = readdirSync(join(root, 'engines'))
  .filter((name) =>
    statSync(join(root, 'engines', name)).isDirectory()
      ? existsSync(join(root, 'engines', name, 'index.ts'))
      : name.endsWith('.ts'),
  )
  .map((name) => name.replace(/\.ts$/, ''));

const load = async (id: string): Promise<Engine> => {
  const file = join(root, 'engines', id);
  return ((await import(existsSync(`${file}.ts`) ? `${file}.ts` : join(file, 'index.ts'))) as { default: Engine })
    .default;
};

const requests: readonly GenerateRequest[] = Array.from({ length: 9 }, (_, index) => ({
  id: `case-${index}`,
  prompt:
    index % 2 === 0
      ? { messages: [{ role: 'user', content: `Where is order KX-1234${index}?` }] }
      : { text: `<|user|>${'Hello. '.repeat(index)}<|end|><|assistant|>` },
  maxTokens: 5 + index,
}));

const byId = (completions: readonly Completion[]): Record<string, unknown> =>
  Object.fromEntries(
    completions.map(({ id, text, finish, usage }) => [
      id,
      { text, finish, promptTokens: usage.promptTokens, generatedTokens: usage.generatedTokens },
    ]),
  );

async function collect(model: Model, list: readonly GenerateRequest[], signal?: AbortSignal): Promise<Completion[]> {
  const found: Completion[] = [];
  for await (const completion of model.generate(list, signal)) found.push(completion);
  return found;
}

async function failureOf(work: () => unknown): Promise<unknown> {
  try {
    await work();
  } catch (error) {
    return error;
  }
  return undefined;
}

it('finds engines to hold to the contract', () => {
  expect(engines).toContain('native');
});

describe.each(engines)('engine %s', (id) => {
  let engine: Engine;
  let checkpoint: Checkpoint;
  let model: Model;
  let tiny: string;
  let empty: string;
  let own: string;

  beforeAll(async () => {
    engine = await load(id);
    tiny = await writeTinyCheckpoint();
    empty = await mkdtemp(join(tmpdir(), 'cupel-empty-'));
    own = await mkdtemp(join(tmpdir(), 'cupel-own-'));
    const maker = join(import.meta.dirname, 'checkpoints', `${id}.ts`);
    if (existsSync(maker))
      await ((await import(maker)) as { writeCheckpoint(folder: string): Promise<void> }).writeCheckpoint(own);
    for (const path of [join(root, 'fixtures/base'), tiny, own]) {
      const candidate = { id: 'candidate', path };
      if (existsSync(path) && (await engine.accepts(candidate))) {
        checkpoint = candidate;
        break;
      }
    }
    if (checkpoint === undefined) throw new Error(`no checkpoint to hold engine ${id} to its contract with`);
    model = await engine.open(checkpoint, { threads: 1, maxBatch: 4 });
  });
  afterAll(async () => {
    await model?.close();
    for (const folder of [tiny, empty, own]) await rm(folder, { recursive: true });
  });

  it('says what it is', () => {
    expect(engine.kind).toBe('engine');
    expect(engine.version).toMatch(/^\d+\.\d+\.\d+/);
    expect(engine.summary.length).toBeGreaterThan(10);
    expect(Object.keys(engine.capabilities).sort()).toEqual([
      'adapters',
      'generate',
      'grammar',
      'jsonSchema',
      'learn',
      'sampling',
      'score',
      'tools',
    ]);
    expect(model.engine).toBe(`${id}@${engine.version}`);
    expect(model.digest).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(model.contextLength).toBeGreaterThan(0);
    expect(model.endOfTurn).toBeLessThan(model.vocabularySize);
  });

  it('takes no empty folder for a checkpoint, and refuses to open it with a coded error', async () => {
    expect(await engine.accepts({ id: 'empty', path: empty })).toBe(false);
    expect(isCupelError(await failureOf(() => engine.open({ id: 'empty', path: empty })))).toBe(true);
  });

  it('tokenizes and renders so that text comes back', () => {
    const text = 'Order KX-12345 is late.';
    expect(model.detokenize(model.tokenize(text))).toBe(text);
    const messages = [{ role: 'user' as const, content: text }];
    expect(model.render(messages)).toContain(text);
    expect(model.render(messages).startsWith(model.render(messages, { addGenerationPrompt: false }))).toBe(true);
  });

  it('yields each id once, within the bound of tokens', async () => {
    const found = await collect(model, requests);
    expect(found.map((completion) => completion.id).sort()).toEqual(requests.map((request) => request.id).sort());
    for (const { id: name, finish, usage } of found) {
      expect(['stop', 'length']).toContain(finish);
      expect(usage.generatedTokens).toBeLessThanOrEqual(
        requests.find((request) => request.id === name)?.maxTokens ?? 0,
      );
      expect(usage.promptTokens).toBeGreaterThanOrEqual(usage.cachedTokens);
    }
    expect(await collect(model, [])).toEqual([]);
  });

  it('gives texts that depend neither on batch, order and neighbours nor on threads', async () => {
    const together = byId(await collect(model, requests));
    const alone: Completion[] = [];
    for (const request of [...requests].reverse()) alone.push(...(await collect(model, [request])));
    expect(byId(alone)).toEqual(together);
    const other = await engine.open(checkpoint, { threads: 2, maxBatch: 32 });
    expect(byId(await collect(other, [...requests].reverse()))).toEqual(together);
    expect(other.digest).toBe(model.digest);
    await other.close();
  });

  it('tells the error of one request and answers the others', async () => {
    // Too long, or a schema: what the engine at hand cannot do.
    const tooMuch = engine.capabilities.jsonSchema
      ? { maxTokens: model.contextLength + 1 }
      : { jsonSchema: { type: 'object' } };
    const bad = { ...(requests[0] as GenerateRequest), id: 'bad', ...tooMuch };
    const found = await collect(model, [bad, ...requests]);
    const { bad: refused, ...rest } = Object.fromEntries(found.map((completion) => [completion.id, completion]));
    expect(refused).toMatchObject({
      finish: 'error',
      error: { code: expect.stringMatching(/^CUPEL_[A-Z]+_/), message: expect.any(String) },
    });
    expect(byId(Object.values(rest))).toEqual(byId(await collect(model, requests)));
  });

  it('stops when the signal says so', async () => {
    expect(await failureOf(() => collect(model, requests, AbortSignal.abort(new Error('stop'))))).toMatchObject({
      message: 'stop',
    });
    expect(await collect(model, requests.slice(0, 1))).toHaveLength(1);
  });

  it('writes what a JSON schema asks for, or refuses it', async () => {
    const jsonSchema = {
      type: 'object',
      properties: { urgency: { enum: ['low', 'high'] } },
      required: ['urgency'],
      additionalProperties: false,
    };
    const found = await collect(
      model,
      requests.map((request) => ({ ...request, maxTokens: 40, jsonSchema })),
    );
    if (!engine.capabilities.jsonSchema) {
      expect(found.map(({ finish }) => finish)).toEqual(requests.map(() => 'error'));
      return;
    }
    const valid = compileSchema(jsonSchema, 'schema');
    for (const { text } of found) expect(valid(JSON.parse(text)), text).toBe(true);
  });

  it('keeps its word on scores', async () => {
    const pairs = requests.map((_, index) => ({
      context: 'The order '.repeat(index + 1),
      continuation: index % 2 === 0 ? ' is late' : ' is here.',
    }));
    if (!engine.capabilities.score) {
      expect(isCupelError(await failureOf(() => model.score(pairs)))).toBe(true);
      return;
    }
    const together = await model.score(pairs);
    for (const [index, pair] of pairs.entries()) {
      const length = model.tokenize(pair.context + pair.continuation).length - model.tokenize(pair.context).length;
      expect(together[index]?.logProbabilities).toHaveLength(length);
      expect(together[index]?.isGreedy).toHaveLength(length);
      for (const value of together[index]?.logProbabilities ?? []) expect(value).toBeLessThanOrEqual(0);
      expect(await model.score([pair])).toEqual([together[index]]);
    }
    expect(await model.score([])).toEqual([]);
  });

  it('keeps its word on learning', async () => {
    if (!engine.capabilities.learn) {
      expect(model.learner === undefined || isCupelError(await failureOf(() => model.learner?.({})))).toBe(true);
      return;
    }
    const learner = await model.learner?.({ threads: 1 });
    expect(learner?.parameterCount).toBeGreaterThan(0);
    const tokens = Int32Array.from(model.tokenize('The order is late'));
    const values = await learner?.logProbabilities({
      tokens,
      offsets: Int32Array.from([0, tokens.length]),
      labelled: Uint8Array.from(tokens, (_, index) => Number(index > 0)),
    });
    expect(values).toHaveLength(tokens.length - 1);
    await learner?.backward(new Float32Array(tokens.length - 1).fill(-1));
    const { gradNorm } =
      (await learner?.step({
        learningRate: 0,
        beta1: 0.9,
        beta2: 0.99,
        epsilon: 1e-8,
        weightDecay: 0,
        maxGradNorm: 0,
      })) ?? {};
    expect(gradNorm).toBeGreaterThan(0);
    await learner?.close();
    await learner?.close();
  });

  it('can be closed twice, and refuses work after', async () => {
    const other = await engine.open(checkpoint);
    await Promise.all([other.close(), other.close()]);
    await other.close();
    for (const work of [() => collect(other, requests), () => other.score([])]) {
      expect(isCupelError(await failureOf(work))).toBe(true);
    }
  });
});
