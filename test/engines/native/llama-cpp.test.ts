import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import native from '../../../engines/native/index.ts';
import { quantize } from '../../../engines/native/quantize.ts';
import type { OpenOptions } from '../../../src/contracts/index.ts';

// What llama.cpp v0.5.0 (node-llama-cpp 3.22.1) generated: fixtures/reference/engine/README.md.
const fixtures = join(import.meta.dirname, '../../../fixtures');
const base = join(fixtures, 'base');
const most = 48;

interface Row {
  readonly prompt: string;
  readonly promptIds: readonly number[];
  readonly greedyIds: readonly number[];
  readonly text: string;
  /** Whether it ended the turn by itself before 48 tokens. */
  readonly ended: boolean;
}

let folder: string;
let rows: Row[];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cupel-interop-'));
  const text = await readFile(join(fixtures, 'reference/engine/llama-cpp.jsonl'), 'utf8');
  rows = text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Row);
});
afterAll(() => rm(folder, { recursive: true }));

async function expectItsTexts(path: string, options: OpenOptions): Promise<void> {
  const model = await native.open({ id: 'base', path }, { threads: 2, ...options });
  const found = new Map<string, unknown>();
  const requests = rows.map(({ promptIds }, index) => ({
    id: String(index),
    prompt: { ids: promptIds },
    maxTokens: most,
  }));
  for await (const { id, text, finish, usage } of model.generate(requests))
    found.set(id, { text, finish, tokens: usage.generatedTokens });
  expect(rows.map((_, index) => found.get(String(index)))).toEqual(
    rows.map(({ text, ended, greedyIds }) => ({ text, finish: ended ? 'stop' : 'length', tokens: greedyIds.length })),
  );
  expect(rows.map(({ prompt }) => model.tokenize(prompt))).toEqual(rows.map(({ promptIds }) => promptIds));
  expect(rows.map(({ greedyIds }) => model.detokenize(greedyIds))).toEqual(rows.map(({ text }) => text));
  await model.close();
}

it('the tiny base generates the texts that llama.cpp does', async () => {
  expect(rows.length).toBeGreaterThanOrEqual(20);
  await expectItsTexts(base, { weights: 'f32', kvCache: 'f32' });
  await expectItsTexts(base, { weights: 'as-stored' });
});

it.each(['f32', 'f16', 'bf16'] as const)('so does a %s GGUF file that we write', async (type) => {
  const path = join(folder, `base-${type}.gguf`);
  await quantize({ id: 'base', path: base }, { path, type, preTokenizer: 'gpt-2' });
  await expectItsTexts(path, { weights: 'f32', kvCache: 'f32' });
  await expectItsTexts(path, { weights: 'as-stored' });
});
