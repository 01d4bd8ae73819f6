import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { readJson } from './files.ts';

interface TokenizerFile {
  readonly model?: { readonly vocab?: unknown; readonly merges?: unknown };
  readonly added_tokens?: readonly { readonly id?: unknown; readonly content?: unknown }[];
}

/**
 * In what the tokenizers of two checkpoint folders differ, as a sentence that names a token; null: in nothing that gives
 * an id another meaning, or one of both has no tokenizer.json to compare.
 * @throws CUPEL_JSON_INVALID
 */
export async function vocabularyDifference(first: string, other: string): Promise<string | null> {
  const files = [first, other].map((path) => join(path, 'tokenizer.json'));
  if (!files.every((file) => existsSync(file))) return null;
  const [a, b] = (await Promise.all(files.map((file) => readJson<TokenizerFile | null>(file)))).map(tokensOf) as [
    Tokens,
    Tokens,
  ];
  const differing = [...new Set([...a.ids.keys(), ...b.ids.keys()])].filter(
    (token) => a.ids.get(token) !== b.ids.get(token),
  );
  const [token] = differing;
  if (token === undefined) return a.merges === b.merges ? null : 'the merges of the tokenizers differ';
  const idOf = ({ ids }: Tokens): string => (ids.has(token) ? `id ${String(ids.get(token))}` : 'no id');
  return `${differing.length} tokens differ: ${JSON.stringify(token)} has ${idOf(b)} in one and ${idOf(a)} in the other`;
}

interface Tokens {
  readonly ids: ReadonlyMap<string, unknown>;
  readonly merges: string;
}

function tokensOf(file: TokenizerFile | null): Tokens {
  const vocab = file?.model?.vocab;
  const listed: [string, unknown][] = Array.isArray(vocab)
    ? vocab.map((entry: unknown, id) => [Array.isArray(entry) ? String(entry[0]) : String(entry), id])
    : Object.entries((vocab ?? {}) as Record<string, unknown>);
  const ids = new Map<string, unknown>(listed);
  for (const { content, id } of file?.added_tokens ?? []) ids.set(String(content), id);
  // Older files write a merge as one text with a space.
  const merges = Array.isArray(file?.model?.merges)
    ? file.model.merges.map((pair: unknown) => (Array.isArray(pair) ? pair.join(' ') : String(pair))).join('\n')
    : '';
  return { ids, merges };
}
