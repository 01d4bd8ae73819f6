import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import native from '../../../engines/native/index.ts';
import { quantize } from '../../../engines/native/quantize.ts';
import type { GenerateRequest, Model, OpenOptions } from '../../../src/contracts/index.ts';
import { Random } from '../../../src/kit/index.ts';
import { scoresOf, scoreWorkload, textsOf, workload } from '../../support/native-workload.ts';

// The promise of the engine: nothing but the request decides its answer. Every comparison here is of bits.
const fixtures = join(import.meta.dirname, '../../../fixtures');
const base = join(fixtures, 'base');

type Variant = Pick<OpenOptions, 'weights' | 'kvCache'> & { readonly path: string; readonly prompts: number };
const files = join(fixtures, 'reference/engine/gguf');
const made = await mkdtemp(join(tmpdir(), 'cupel-bits-'));
afterAll(() => rm(made, { recursive: true }));
const q4 = join(made, 'base-q4_0.gguf');
await quantize({ id: 'base', path: base }, { path: q4, type: 'q4_0', preTokenizer: 'gpt-2' });

const variants: Variant[] = [
  { path: base, weights: 'f32', kvCache: 'f32', prompts: 200 },
  { path: base, weights: 'q8_0', kvCache: 'f16', prompts: 200 },
  { path: base, weights: 'w8a8', kvCache: 'q8_0', prompts: 200 },
  { path: q4, weights: 'as-stored', kvCache: 'f32', prompts: 100 },
  { path: base, weights: 'as-stored', kvCache: 'q8_0', prompts: 40 },
  // Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 F16 BF16 F32
  { path: join(files, 'python-mix.gguf'), weights: 'as-stored', kvCache: 'f16', prompts: 60 },
  // Q4_K Q6_K Q5_0 Q8_0
  { path: join(files, 'llama-cpp-mix.gguf'), weights: 'as-stored', kvCache: 'f16', prompts: 60 },
];

async function withModel<T>(variant: Variant, options: OpenOptions, work: (model: Model) => Promise<T>): Promise<T> {
  const { path, weights, kvCache } = variant;
  const held = { ...(weights === undefined ? {} : { weights }), ...(kvCache === undefined ? {} : { kvCache }) };
  const model = await native.open({ id: 'base', path }, { ...held, ...options });
  try {
    return await work(model);
  } finally {
    await model.close();
  }
}

async function oneByOne<Request, Answer>(
  requests: readonly Request[],
  ask: (request: Request) => Promise<Answer>,
): Promise<Answer[]> {
  const answers = [];
  for (const request of requests) answers.push(await ask(request));
  return answers;
}

async function cachedTokens(model: Model, requests: readonly GenerateRequest[]): Promise<number> {
  let sum = 0;
  for await (const { usage } of model.generate(requests)) sum += usage.cachedTokens;
  return sum;
}

describe.each(variants)('answers of $path with weights $weights, cache $kvCache', (variant) => {
  it('depend on nothing but the request', async () => {
    const { contextLength, vocabularySize } = await withModel(variant, {}, (model) => Promise.resolve(model));
    const requests = workload(1, variant.prompts, { contextLength, vocabularySize });
    const scores = scoreWorkload(1, 60, { contextLength, vocabularySize });
    const alone = await withModel(variant, { threads: 1, maxBatch: 1 }, async (model) => ({
      texts: new Map((await oneByOne(requests, (request) => textsOf(model, [request]))).flatMap((map) => [...map])),
      scores: (await oneByOne(scores, (request) => scoresOf(model, [request]))).flat(),
      again: await textsOf(model, requests.slice(0, 20)),
      cached: await cachedTokens(model, requests.slice(0, 20)),
    }));
    expect(new Set(alone.texts.values()).size).toBeGreaterThan(variant.prompts / 2);
    expect([...alone.texts.values()].filter((text) => text.includes('CUPEL'))).toEqual([]);
    // Prompts that the cache knows by now.
    expect(alone.cached).toBeGreaterThan(100);
    for (const [id, text] of alone.again) expect(text).toBe(alone.texts.get(id));

    for (const request of requests.slice(0, 12)) {
      const cold = await withModel(variant, { threads: 1 }, (model) => textsOf(model, [request]));
      expect(cold.get(request.id)).toBe(alone.texts.get(request.id));
    }

    const others: OpenOptions[] = [
      { threads: 1, maxBatch: 2 },
      { threads: 2, maxBatch: 7, stepTokens: 16 },
      { threads: 2, maxBatch: 32 },
      { threads: 2, maxBatch: 32, stepTokens: 33, kvCacheBytes: 1 << 20 },
      { threads: 3, maxBatch: 13, stepTokens: 5 },
    ];
    for (const [index, options] of others.entries()) {
      const found = await withModel(variant, options, async (model) => {
        // Both kinds of work at once share steps and cache.
        const [texts, likelihoods] = await Promise.all([
          textsOf(model, new Random(index, 'order').shuffle(requests)),
          scoresOf(model, scores),
        ]);
        return { texts, likelihoods };
      });
      expect(found.texts, JSON.stringify(options)).toEqual(alone.texts);
      expect(found.likelihoods, JSON.stringify(options)).toEqual(alone.scores);
    }
  });
});

describe('answers on every instruction set', () => {
  it('are those of the scalar reference', async () => {
    const named = variants.map(({ path, weights, kvCache }) => `${path}|${weights}|${kvCache}`);
    const answersOn = async (isa: string, threads: number): Promise<unknown> => {
      const { stdout } = await promisify(execFile)(
        process.execPath,
        [
          '--import',
          'tsx',
          fileURLToPath(new URL('../../support/native-answers.ts', import.meta.url)),
          String(threads),
          ...named,
        ],
        { cwd: join(fixtures, '..'), env: { ...process.env, CUPEL_NATIVE_ISA: isa }, maxBuffer: 1 << 26 },
      );
      return JSON.parse(stdout);
    };
    const reference = (await answersOn('scalar', 1)) as [string, [string, string][], string[]][];
    expect(reference).toHaveLength(variants.length);
    for (const [, texts, likelihoods] of reference) expect([texts.length, likelihoods.length]).toEqual([8, 4]);
    // What this machine lacks is answered by the next lower set.
    const sets = process.arch === 'arm64' ? ['neon'] : ['avx2', 'avx512', 'vnni', 'amx'];
    const others = await Promise.all(sets.map((isa, index) => answersOn(isa, 1 + (index % 2))));
    for (const [index, answers] of others.entries()) expect(answers, sets[index]).toEqual(reference);
  }, 120_000);
});
