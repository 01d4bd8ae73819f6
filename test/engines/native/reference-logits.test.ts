import { readdirSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import native from '../../../engines/native/index.ts';
import { quantize } from '../../../engines/native/quantize.ts';
import type { Model, OpenOptions } from '../../../src/contracts/index.ts';
import { readSafetensors } from '../../../src/kit/index.ts';
import { byteTokenizer } from '../../support/byte-tokenizer.ts';

// Values of torch 2.15.0, transformers 5.23.0 and peft 0.21.2; tolerance of fixtures/reference/engine/README.md.
const root = join(import.meta.dirname, '../../../fixtures/reference');
const tolerance = 5e-5;
const made: string[] = [];

afterAll(async () => {
  for (const folder of made) await rm(folder, { recursive: true });
});

/** A copy of the model with a tokenizer beside it. */
async function withTokenizer(folder: string): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'cupel-reference-'));
  made.push(path);
  await cp(folder, path, { recursive: true });
  const config = JSON.parse(await readFile(join(path, 'config.json'), 'utf8')) as { vocab_size: number };
  await writeFile(join(path, 'tokenizer.json'), JSON.stringify(byteTokenizer(config.vocab_size)));
  await writeFile(join(path, 'tokenizer_config.json'), JSON.stringify({ bos_token: '<s>', eos_token: '</s>' }));
  return path;
}

/** The model, opened in single precision throughout. */
async function open(folder: string, options: OpenOptions = {}): Promise<Model> {
  const path = await withTokenizer(folder);
  return native.open({ id: 'reference', path }, { threads: 2, weights: 'f32', kvCache: 'f32', ...options });
}

interface Sequence {
  readonly ids: readonly number[];
  /** Row t: natural-log probabilities of what follows ids[0..t]. */
  readonly rows: readonly (readonly number[])[];
}

function sequenceOf(ids: readonly number[], logits: Float32Array, vocabulary: number): Sequence {
  const rows = ids.map((_, row) => {
    const values = Array.from(logits.subarray(row * vocabulary, (row + 1) * vocabulary));
    const most = Math.max(...values);
    const sum = most + Math.log(values.reduce((total, value) => total + Math.exp(value - most), 0));
    return values.map((value) => value - sum);
  });
  return { ids, rows };
}

async function sequences(tokensFile: string, logitsFile: string): Promise<Sequence[]> {
  const { sequences: list } = JSON.parse(await readFile(tokensFile, 'utf8')) as { sequences: number[][] };
  const { tensors } = await readSafetensors(logitsFile);
  return list.map((ids, index) => {
    const tensor = tensors.get(String(index));
    return sequenceOf(ids, tensor?.data as Float32Array, tensor?.shape[1] ?? 0);
  });
}

const ofModel = (folder: string, answers = folder): Promise<Sequence[]> =>
  sequences(join(folder, 'tokens.json'), join(answers, 'logits.safetensors'));

/** Largest distance of log-probabilities: of each next token, and of the whole vocabulary at five positions. */
async function distance(model: Model, list: readonly Sequence[], adapter?: string): Promise<number> {
  const asked = list.flatMap(({ ids, rows }) => {
    const places = [...new Set([0, 0.3, 0.6, 0.9, 1].map((part) => Math.floor((ids.length - 1) * part)))];
    const whole = ids.length < 2 ? [] : [{ contextIds: ids.slice(0, 1), continuationIds: ids.slice(1) }];
    return [
      ...whole.map((request) => ({ request, expected: request.continuationIds.map((id, t) => rows[t]?.[id] ?? NaN) })),
      ...places.flatMap((t) =>
        (rows[t] ?? []).map((value, id) => ({
          request: { contextIds: ids.slice(0, t + 1), continuationIds: [id] },
          expected: [value],
        })),
      ),
    ];
  });
  const found = await model.score(
    asked.map(({ request }) => (adapter === undefined ? request : { ...request, adapter })),
  );
  const distances = asked.flatMap(({ expected }, index) =>
    expected.map((value, t) => Math.abs(value - (found[index]?.logProbabilities[t] ?? NaN))),
  );
  expect(distances.length).toBeGreaterThan(100);
  return distances.reduce((most, value) => (value <= most ? most : value), 0);
}

/** Mean distance of the log-probabilities of each next token. */
async function meanDistance(model: Model, list: readonly Sequence[], adapter?: string): Promise<number> {
  const long = list.filter(({ ids }) => ids.length > 1);
  const scores = await model.score(
    long.map(({ ids }) => ({
      contextIds: ids.slice(0, 1),
      continuationIds: ids.slice(1),
      ...(adapter === undefined ? {} : { adapter }),
    })),
  );
  return meanOfDistances(
    scores.flatMap(({ logProbabilities }) => logProbabilities),
    long,
  );
}

function meanOfDistances(values: readonly number[], list: readonly Sequence[]): number {
  const expected = list.flatMap(({ ids, rows }) => ids.slice(1).map((id, t) => rows[t]?.[id] ?? NaN));
  expect(values).toHaveLength(expected.length);
  return values.reduce((sum, value, index) => sum + Math.abs(value - (expected[index] ?? NaN)), 0) / values.length;
}

const models = join(root, 'engine/models');
const adapters = join(root, 'engine/adapters');

describe.each(readdirSync(models))('the model %s', (name) => {
  it('gives the log-probabilities of transformers', async () => {
    const model = await open(join(models, name));
    expect(await distance(model, await ofModel(join(models, name)))).toBeLessThan(tolerance);
    await model.close();
  });
});

it.each(readdirSync(models))('%s written as a GGUF file and read again gives its bits', async (name) => {
  const list = await ofModel(join(models, name));
  const requests = list
    .filter(({ ids }) => ids.length > 1)
    .map(({ ids }) => ({ contextIds: ids.slice(0, 1), continuationIds: ids.slice(1) }));
  const folder = await withTokenizer(join(models, name));
  const source = await native.open({ id: name, path: folder }, { threads: 2, weights: 'f32', kvCache: 'f32' });
  const expected = await source.score(requests);
  await source.close();
  const path = join(folder, 'written.gguf');
  await quantize({ id: name, path: folder }, { path, type: 'f32', preTokenizer: 'gpt-2' });
  const written = await native.open({ id: name, path }, { threads: 2, weights: 'f32', kvCache: 'f32' });
  expect(await written.score(requests)).toEqual(expected);
  await written.close();
});

it.each(['llama-f16', 'llama-bf16-sharded'])('%s held as stored gives the bits of single precision', async (name) => {
  const list = await ofModel(join(models, name));
  const requests = list
    .filter(({ ids }) => ids.length > 1)
    .map(({ ids }) => ({ contextIds: ids.slice(0, 1), continuationIds: ids.slice(1) }));
  const answers = [];
  for (const weights of ['f32', 'as-stored'] as const) {
    const model = await open(join(models, name), { weights });
    answers.push(await model.score(requests));
    await model.close();
  }
  expect(answers[1]).toEqual(answers[0]);
});

const files = join(root, 'engine/gguf');

describe.each(readdirSync(files).filter((name) => name.endsWith('.gguf')))('the file %s', (file) => {
  const path = join(files, file);
  const part = (end: string): string => path.replace(/gguf$/, end);

  it('gives the log-probabilities of its own numbers in transformers', async () => {
    const model = await native.open({ id: file, path }, { threads: 2, weights: 'f32', kvCache: 'f32' });
    const list = await sequences(part('tokens.json'), part('logits.safetensors'));
    expect(await distance(model, list)).toBeLessThan(tolerance);
    await model.close();
  });

  it('multiplied in its own types is as near to them as llama.cpp is', async () => {
    const { logProbabilities } = JSON.parse(await readFile(part('llama-cpp.json'), 'utf8')) as {
      logProbabilities: number[][];
    };
    const list = await sequences(part('tokens.json'), part('logits.safetensors'));
    const model = await native.open({ id: file, path }, { threads: 2, weights: 'as-stored', kvCache: 'f32' });
    const ours = await meanDistance(model, list);
    await model.close();
    expect(ours).toBeGreaterThan(tolerance);
    expect(ours).toBeLessThan(1.1 * meanOfDistances(logProbabilities.flat(), list));
  });
});

describe.each(['llama-untied', 'qwen2-tied', 'llama-tied-gqa9'])('the adapter of %s', (name) => {
  it('gives the log-probabilities of PEFT', async () => {
    const folder = join(root, 'models', name);
    const { batches } = JSON.parse(await readFile(join(folder, 'batches.json'), 'utf8')) as {
      batches: { input_ids: number[][]; attention_mask: number[][] }[];
    };
    const tensor = (await readSafetensors(join(adapters, name, 'logits.safetensors'))).tensors.get('logits_init');
    const [, columns = 0, vocabulary = 0] = tensor?.shape ?? [];
    const values = tensor?.data as Float32Array;
    const list = (batches[0]?.input_ids ?? []).map((ids, row) => {
      const length = batches[0]?.attention_mask[row]?.reduce((sum, seen) => sum + seen, 0) ?? 0;
      const begin = row * columns * vocabulary;
      return sequenceOf(ids.slice(0, length), values.subarray(begin, begin + length * vocabulary), vocabulary);
    });
    const model = await open(folder, { adapters: { it: join(adapters, name) } });
    expect(await distance(model, list, 'it')).toBeLessThan(tolerance);
    await model.close();
  });
});

describe('adapters on one base', () => {
  const own = readdirSync(adapters).filter((name) => !/^(refused|llama|qwen2)/.test(name));
  const base = join(models, 'qwen3-tied');

  it('are computed side by side, each as by PEFT alone, the base untouched', async () => {
    expect(own.length).toBeGreaterThanOrEqual(5);
    const model = await open(base, {
      adapters: Object.fromEntries(own.map((name) => [name, join(adapters, name)])),
    });
    const distances = await Promise.all([
      distance(model, await ofModel(base)),
      ...own.map(async (name) => distance(model, await ofModel(base, join(adapters, name)), name)),
    ]);
    expect(Math.max(...distances), distances.join(' ')).toBeLessThan(tolerance);
    // One call whose requests name different adapters gives the same bits as a call for each.
    const ids = (await ofModel(base))[2]?.ids ?? [];
    const requests = [undefined, ...own].map((adapter) => ({
      contextIds: ids.slice(0, 4),
      continuationIds: ids.slice(4),
      ...(adapter === undefined ? {} : { adapter }),
    }));
    const together = await model.score(requests);
    for (const [index, request] of requests.entries()) expect(await model.score([request])).toEqual([together[index]]);
    expect(new Set(together.map(({ logProbabilities }) => logProbabilities.join())).size).toBe(requests.length);
    await model.close();
  });

  it.each(['q8_0', 'w8a8'] as const)('are as near on a %s base as the base itself is', async (weights) => {
    const model = await open(base, {
      weights,
      adapters: Object.fromEntries(own.map((name) => [name, join(adapters, name)])),
    });
    const bare = await meanDistance(model, await ofModel(base));
    expect(bare).toBeGreaterThan(tolerance);
    expect(bare).toBeLessThan(0.1);
    for (const name of own)
      expect(await meanDistance(model, await ofModel(base, join(adapters, name)), name), name).toBeLessThan(1.5 * bare);
    await model.close();
  });

  it.each(readdirSync(adapters).filter((name) => name.startsWith('refused')))('%s stays out', async (name) => {
    await expect(open(base, { adapters: { it: join(adapters, name) } })).rejects.toMatchObject({
      code: 'CUPEL_NATIVE_ADAPTER_INVALID',
    });
  });

  it('that were not opened are refused request by request', async () => {
    const model = await open(base, { adapters: { it: join(adapters, 'alpha') } });
    await expect(model.score([{ contextIds: [3], continuationIds: [4], adapter: 'that' }])).rejects.toMatchObject({
      code: expect.stringMatching(/^CUPEL_NATIVE_/) as string,
    });
    await model.close();
  });
});
