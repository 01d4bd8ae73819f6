import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine, Model, TrainingRecord, TrainingRow, VocabularyOptions } from '../../../src/contracts/index.ts';
import {
  listFileDigests,
  packageRoot,
  readSafetensors,
  type Tensor,
  writeSafetensors,
} from '../../../src/kit/index.ts';
import { openRegistry } from '../../../src/plugins/registry.ts';
import { type ExtensionReport, extendVocabulary } from '../../../src/train/index.ts';

const base = join(packageRoot(), 'fixtures/base');
const options: VocabularyOptions = { tokens: 40, minimumCount: 3, multipleOf: 64 };
let folder: string;
let native: Engine;
let model: Model;
let extended: Model;
let report: ExtensionReport;
let output: string;

// Words that the base has no token for, so that they are cut into many pieces.
const sentences = ['zyxquor', 'Glimmerfax', 'photovoltaic', 'Überkühlung'].flatMap((word, index) =>
  [...Array(6).keys()].map(
    (turn) => `The ${word} unit ${turn} is a ${word}, not ${'x'.repeat(index)}${word}s 1${turn}7.`,
  ),
);
const rows: TrainingRow[] = sentences.map((text, index) => ({ id: `${index}`, kind: 'text', text }));

const open = (path: string): Promise<Model> => native.open({ id: 'extended', path }, { threads: 1 });
const extend = (name: string, change: Partial<Parameters<typeof extendVocabulary>[0]> = {}): Promise<ExtensionReport> =>
  extendVocabulary({ base, model, rows, options, output: join(folder, name), open, ...change });
const readTokenizer = async (path: string): Promise<{ model: { vocab: Record<string, number>; merges: string[][] } }> =>
  JSON.parse(await readFile(join(path, 'tokenizer.json'), 'utf8')) as {
    model: { vocab: Record<string, number>; merges: string[][] };
  };

/** Byte by byte: comparing large arrays by value takes seconds. */
function sameValues(a: Float32Array | undefined, b: Float32Array | undefined): boolean {
  if (a === undefined || b === undefined) return false;
  return Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(Buffer.from(b.buffer, b.byteOffset, b.byteLength));
}

function sameTensor(a: Tensor | undefined, b: Tensor): boolean {
  return a?.dtype === b.dtype && a.shape.join() === b.shape.join() && sameValues(a.data, b.data);
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cupel-vocabulary-'));
  native = await (await openRegistry()).load('engine', 'native');
  model = await open(base);
  output = join(folder, 'extended');
  report = await extend('extended');
  extended = await open(output);
});
afterAll(async () => {
  await model.close();
  await extended.close();
  await rm(folder, { recursive: true, force: true });
});

describe('an extended vocabulary', () => {
  it('saves tokens on text that it was not chosen from, and says how many', () => {
    expect(report.heldOut).toBe(true);
    expect(report.tokens.length).toBeGreaterThan(10);
    const heldOut = sentences.filter((_, index) => index % 10 === 9);
    const count = (one: Model): number => heldOut.reduce((sum, text) => sum + one.tokenize(text).length, 0);
    expect([report.before.tokens, report.after.tokens]).toEqual([count(model), count(extended)]);
    expect(report.after.tokens).toBeLessThan(0.8 * report.before.tokens);
    expect(report.before.words).toBe(report.after.words);
  });

  it('saves on the corpus what each token was chosen for, to the token', () => {
    const chosenFrom = sentences.filter((_, index) => index % 10 !== 9);
    const count = (one: Model): number => chosenFrom.reduce((sum, text) => sum + one.tokenize(text).length, 0);
    expect(count(model) - count(extended)).toBe(report.tokens.reduce((sum, { saved }) => sum + saved, 0));
    const saved = report.tokens.map((token) => token.saved);
    expect(saved[0]).toBe(Math.max(...saved));
  });

  it('gives every text back, and joins what the base cut', () => {
    const piece = fc.constantFrom(
      ...sentences.join(' ').split(/(?<=[ .,])/),
      '\n',
      '  ',
      '日本',
      '🙂',
      '<|end|>',
      '\uE000',
    );
    fc.assert(
      fc.property(fc.array(fc.oneof(piece, fc.string()), { maxLength: 12 }), (parts) => {
        const text = parts.join('');
        const [old, now] = [model.tokenize(text), extended.tokenize(text)];
        expect(extended.detokenize(now)).toBe(model.detokenize(old));
        if (!text.includes('<|')) expect(extended.detokenize(now)).toBe(text);
        expect(now.length).toBeLessThanOrEqual(old.length);
      }),
      { numRuns: 200 },
    );
  });

  it('keeps every old id, and appends new merges after the old ones', async () => {
    const [old, now] = [await readTokenizer(base), await readTokenizer(output)];
    for (const [token, id] of Object.entries(old.model.vocab)) expect(now.model.vocab[token]).toBe(id);
    expect(now.model.merges.slice(0, old.model.merges.length)).toEqual(old.model.merges);
    expect(now.model.merges).toHaveLength(old.model.merges.length + report.tokens.length);
    expect(Object.values(now.model.vocab).toSorted((a, b) => a - b)).toEqual([
      ...Array(Object.keys(now.model.vocab).length).keys(),
    ]);
  });

  it('starts new rows as the mean of their old pieces, and leaves every other number alone', async () => {
    const [old, now] = await Promise.all(
      [base, output].map(async (path) => (await readSafetensors(join(path, 'model.safetensors'))).tensors),
    );
    const name = 'model.embed_tokens.weight';
    for (const [other, tensor] of old ?? [])
      if (other !== name) expect(sameTensor(now?.get(other), tensor), other).toBe(true);
    const [before, after] = [old?.get(name), now?.get(name)];
    const width = before?.shape[1] as number;
    expect(after?.shape).toEqual([2112, width]);
    expect(sameValues(after?.data.subarray(0, before?.data.length), before?.data)).toBe(true);
    const token = report.tokens.at(-1) as ExtensionReport['tokens'][number];
    const pieces = model.tokenize(token.text);
    expect(extended.tokenize(token.text)).toEqual([token.id]);
    for (let column = 0; column < width; column++) {
      const mean = pieces.reduce((sum, id) => sum + (before?.data[id * width + column] as number), 0) / pieces.length;
      const found = after?.data[token.id * width + column] as number;
      // Stored as bf16: 8 bits.
      expect(Math.abs(found - mean)).toBeLessThanOrEqual(Math.abs(mean) * 2 ** -8 + 1e-9);
    }
  });

  it('leaves a record and a config with the new size, and nothing beside the folder', async () => {
    const record = JSON.parse(await readFile(join(output, 'cupel_run.json'), 'utf8')) as TrainingRecord;
    expect(record).toMatchObject({ trainer: 'extend-vocabulary@1.0.0', parent: model.digest });
    expect(record.metrics['fertility_after']).toBeLessThan(record.metrics['fertility_before'] as number);
    expect(extended.vocabularySize).toBe(2112);
    expect(await readdir(folder)).toEqual(['extended']);
  });

  it('gives the same bytes again', async () => {
    await extend('again');
    expect(await listFileDigests(join(folder, 'again'))).toEqual(await listFileDigests(output));
    await rm(join(folder, 'again'), { recursive: true });
  });

  it('predicts old tokens as before where no new token competes', async () => {
    const ids = model.tokenize('The capital of').slice(0, 3);
    const [old, now] = await Promise.all(
      [model, extended].map((one) =>
        one
          .score([{ contextIds: ids.slice(0, 2), continuationIds: ids.slice(2) }])
          .then(([result]) => result?.logProbabilities[0]),
      ),
    );
    // The softmax has more terms, and no logit changed.
    expect(now).toBeLessThanOrEqual(old as number);
    expect(now).toBeGreaterThan((old as number) - 0.5);
  });
});

describe('a head of its own, padded rows and tokens beside the vocabulary', () => {
  it('extends both matrices, uses padded rows first, and keeps the ids of added tokens', async () => {
    const other = join(folder, 'untied');
    await cp(base, other, { recursive: true });
    const config = JSON.parse(await readFile(join(base, 'config.json'), 'utf8')) as Record<string, unknown>;
    await writeFile(
      join(other, 'config.json'),
      JSON.stringify({ ...config, tie_word_embeddings: false, vocab_size: 2100 }),
    );
    const tokenizer = JSON.parse(await readFile(join(base, 'tokenizer.json'), 'utf8')) as {
      added_tokens: object[];
    };
    tokenizer.added_tokens.push({ id: 2048, content: '<|extra|>', special: true, normalized: false });
    await writeFile(join(other, 'tokenizer.json'), JSON.stringify(tokenizer));
    const { tensors } = await readSafetensors(join(base, 'model.safetensors'));
    const embedding = tensors.get('model.embed_tokens.weight');
    const width = embedding?.shape[1] as number;
    const padded = new Float32Array(2100 * width);
    padded.set(embedding?.data ?? []);
    const matrix = { dtype: 'F32', shape: [2100, width], data: padded } as const;
    await writeSafetensors(join(other, 'model.safetensors'), [
      ...[...tensors.values()].filter(({ name }) => name !== 'model.embed_tokens.weight'),
      { name: 'model.embed_tokens.weight', ...matrix },
      { name: 'lm_head.weight', ...matrix, data: padded.map((value) => 2 * value) },
    ]);
    const source = await open(other);
    const target = join(folder, 'untied-extended');
    const found = await extend('untied-extended', { base: other, model: source, options: { ...options, tokens: 30 } });
    await source.close();
    expect(found.vocabularySize).toEqual({ before: 2100, after: 2100 });
    expect(found.tokens[0]?.id).toBe(2049);
    const result = await open(target);
    expect(result.tokenize('<|extra|>')).toEqual([2048]);
    await result.close();
    const after = (await readSafetensors(join(target, 'model.safetensors'))).tensors;
    const [embedded, head] = ['model.embed_tokens.weight', 'lm_head.weight'].map((name) => after.get(name)?.data);
    expect(
      sameValues(
        head,
        embedded?.map((value) => 2 * value),
      ),
    ).toBe(true);
    expect(embedded?.subarray(2049 * width, 2050 * width).some((value) => value !== 0)).toBe(true);
    await rm(other, { recursive: true });
    await rm(target, { recursive: true });
  });
});

describe('an extension refuses', () => {
  it('a corpus without anything to gain, and a folder that exists', async () => {
    const few: TrainingRow[] = [{ id: '1', kind: 'text', text: 'The.' }];
    await expect(extend('x', { rows: few })).rejects.toMatchObject({ code: 'CUPEL_VOCABULARY_CORPUS' });
    await expect(extend('extended')).rejects.toMatchObject({ code: 'CUPEL_VOCABULARY_OUTPUT_EXISTS' });
    expect(await readdir(folder)).toEqual(['extended']);
  });

  it('tokenizers of other kinds, and weights that do not fit', async () => {
    const other = join(folder, 'other');
    await cp(base, other, { recursive: true });
    const file = join(other, 'tokenizer.json');
    const tokenizer = JSON.parse(await readFile(file, 'utf8')) as { model: object };
    await writeFile(file, JSON.stringify({ ...tokenizer, model: { type: 'Unigram', vocab: [['a', 0]] } }));
    await expect(extend('x', { base: other })).rejects.toMatchObject({ code: 'CUPEL_VOCABULARY_TOKENIZER' });
    await cp(join(base, 'tokenizer.json'), file);
    const config = JSON.parse(await readFile(join(base, 'config.json'), 'utf8')) as object;
    await writeFile(join(other, 'config.json'), JSON.stringify({ ...config, vocab_size: 4000 }));
    await expect(extend('x', { base: other })).rejects.toMatchObject({ code: 'CUPEL_VOCABULARY_WEIGHTS' });
    await rm(other, { recursive: true });
    expect(await readdir(folder)).toEqual(['extended']);
  });
});

describe('a tokenizer that marks words in its pieces, with bytes for what it does not know', () => {
  it('is extended within words, and no token is joined with a byte', async () => {
    const path = join(folder, 'marked');
    await cp(join(packageRoot(), 'fixtures/reference/e2e'), path, { recursive: true });
    const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
    const merges = [
      ['▁', 't'],
      ['h', 'e'],
      ['▁t', 'he'],
    ];
    const vocabulary = [
      '<unk>',
      '<s>',
      '</s>',
      ...bytes,
      ...'▁abcdefghijklmnopqrstuvwxyz.',
      ...merges.map((pair) => pair.join('')),
    ];
    const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
    const tokenizer = {
      version: '1.0',
      added_tokens: [0, 1, 2].map((id) => ({ id, content: vocabulary[id], ...flags })),
      normalizer: {
        type: 'Sequence',
        normalizers: [
          { type: 'Prepend', prepend: '▁' },
          { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
        ],
      },
      pre_tokenizer: null,
      post_processor: null,
      decoder: {
        type: 'Sequence',
        decoders: [
          { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
          { type: 'ByteFallback' },
          { type: 'Fuse' },
          { type: 'Strip', content: ' ', start: 1, stop: 0 },
        ],
      },
      model: {
        type: 'BPE',
        unk_token: '<unk>',
        fuse_unk: true,
        byte_fallback: true,
        vocab: Object.fromEntries(vocabulary.map((token, id) => [token, id])),
        // As older files write them.
        merges: merges.map((pair) => pair.join(' ')),
      },
    };
    await writeFile(join(path, 'tokenizer.json'), JSON.stringify(tokenizer));
    await writeFile(join(path, 'tokenizer_config.json'), JSON.stringify({ eos_token: '</s>' }));
    const config = JSON.parse(await readFile(join(path, 'config.json'), 'utf8')) as object;
    await writeFile(join(path, 'config.json'), JSON.stringify({ ...config, vocab_size: vocabulary.length }));
    const { tensors } = await readSafetensors(join(path, 'model.safetensors'));
    const rest = [...tensors.values()].filter(({ name }) => name !== 'model.embed_tokens.weight');
    const data = Float32Array.from({ length: vocabulary.length * 64 }, (_, index) => Math.sin(index));
    await writeSafetensors(join(path, 'model.safetensors'), [
      ...rest,
      { name: 'model.embed_tokens.weight', dtype: 'F32', shape: [vocabulary.length, 64], data },
    ]);
    const source = await open(path);
    const texts = [...Array(12).keys()].map((index) => `the glimmer, the glimmers\nof the élan ${index}.`);
    const target = join(folder, 'marked-extended');
    const found = await extend('marked-extended', {
      base: path,
      model: source,
      rows: texts.map((content, index) => ({ id: `${index}`, kind: 'text', text: content })),
      options: { tokens: 12, minimumCount: 5, multipleOf: 1 },
    });
    const result = await open(target);
    const after = await readTokenizer(target);
    expect(after.model.merges.slice(0, 3)).toEqual(merges.map((pair) => pair.join(' ')));
    const added = Object.keys(after.model.vocab).filter(
      (token) => (after.model.vocab[token] as number) >= vocabulary.length,
    );
    expect(added).toContain('▁glimmer');
    expect(added.filter((token) => token.includes('<0x') || token.indexOf('▁') > 0)).toEqual([]);
    for (const text of [...texts, 'theglimmer é\n the', '']) {
      expect(result.detokenize(result.tokenize(text))).toBe(text);
    }
    expect(found.after.tokens).toBeLessThan(found.before.tokens);
    await source.close();
    await result.close();
    await rm(path, { recursive: true });
    await rm(target, { recursive: true });
  });
});
