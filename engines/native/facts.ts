import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Model } from '../../src/contracts/index.ts';

export type ModelFacts = Pick<Model, 'beginOfSequence' | 'padding' | 'tiedHead'>;

/** Published tokenizer_config.json files stay below 2 MB. */
const largestFile = 16 << 20;

/**
 * What the small JSON files of a checkpoint folder say beside what the engine reads. A file that is absent or is no JSON
 * says nothing: what the engine needs of it the engine refuses by itself.
 */
export async function readFacts(folder: string, tokenize: (text: string) => readonly number[]): Promise<ModelFacts> {
  const [tokenizer, specials, config] = await Promise.all(
    ['tokenizer_config.json', 'special_tokens_map.json', 'config.json'].map((file) => readObject(join(folder, file))),
  );
  const idOf = (name: string): number | null => {
    const text = textOf(tokenizer?.[name]) ?? textOf(specials?.[name]);
    const ids = text === null ? [] : tokenize(text);
    return ids.length === 1 ? (ids[0] ?? null) : null;
  };
  const tied = config?.['tie_word_embeddings'];
  return {
    ...(tokenizer === null && specials === null
      ? {}
      : { beginOfSequence: idOf('bos_token'), padding: idOf('pad_token') }),
    ...(typeof tied === 'boolean' ? { tiedHead: tied } : {}),
  };
}

async function readObject(file: string): Promise<Record<string, unknown> | null> {
  try {
    const text = await readFile(file, 'utf8');
    const value: unknown = text.length > largestFile ? null : JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

/** A token is written as its text, or as an object that holds it. */
function textOf(token: unknown): string | null {
  const text = typeof token === 'object' && token !== null ? (token as Record<string, unknown>)['content'] : token;
  return typeof text === 'string' && text !== '' ? text : null;
}
