import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readFacts } from '../../../engines/native/facts.ts';
import native from '../../../engines/native/index.ts';
import { packageRoot } from '../../../src/kit/index.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cupel-facts-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const ids: Readonly<Record<string, readonly number[]>> = { '<s>': [1], '</s>': [2], 'two tokens': [3, 4] };
const factsOf = async (files: Readonly<Record<string, string>>) => {
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
  return readFacts(folder, (text) => ids[text] ?? []);
};

test('special tokens stand as texts or as objects, in either file', async () => {
  expect(
    await factsOf({
      'tokenizer_config.json': '{"bos_token": {"content": "<s>"}}',
      'special_tokens_map.json': '{"pad_token": "</s>"}',
      'config.json': '{"tie_word_embeddings": false}',
    }),
  ).toEqual({ beginOfSequence: 1, padding: 2, tiedHead: false });
});

test.each([
  ['nothing', {}, {}],
  ['no JSON', { 'tokenizer_config.json': '{', 'config.json': 'x' }, {}],
  ['JSON that is no object', { 'tokenizer_config.json': '7', 'config.json': 'null' }, {}],
  ['no such tokens', { 'tokenizer_config.json': '{}' }, { beginOfSequence: null, padding: null }],
  [
    'what is no token, or more than one',
    {
      'tokenizer_config.json': '{"bos_token": 7, "pad_token": "two tokens"}',
      'config.json': '{"tie_word_embeddings": 1}',
    },
    { beginOfSequence: null, padding: null },
  ],
] as const)('a folder with %s says no more than it knows', async (_, files, expected) => {
  expect(await factsOf(files)).toEqual(expected);
});

test('an open model tells them', async () => {
  const model = await native.open({ id: 'base', path: join(packageRoot(), 'fixtures/base') }, { threads: 1 });
  expect([model.beginOfSequence, model.padding, model.tiedHead]).toEqual([null, 0, true]);
  await model.close();
});
