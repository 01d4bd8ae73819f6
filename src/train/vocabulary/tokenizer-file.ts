import { join } from 'node:path';
import { readJson } from '../../kit/index.ts';
import { vocabularyErrors } from './errors.ts';

/** A byte-pair tokenizer.json, as far as an extension reads it. */
export interface TokenizerFile {
  /** The whole file, to be written back with what is new. */
  readonly json: Readonly<Record<string, unknown>>;
  readonly vocabulary: ReadonlyMap<string, number>;
  readonly merges: readonly unknown[];
  readonly added: readonly { readonly id: number; readonly content: string }[];
  /** Words that are tokens are taken whole, before any merge. */
  readonly wholeWords: boolean;
  /** Highest id plus one. */
  readonly size: number;
}

/** @throws CUPEL_FILE_MISSING, CUPEL_JSON_INVALID, CUPEL_VOCABULARY_TOKENIZER */
export async function readTokenizerFile(folder: string): Promise<TokenizerFile> {
  const file = join(folder, 'tokenizer.json');
  const json = await readJson<Readonly<Record<string, unknown>> | null>(file);
  const refuse = (message: string): Error => vocabularyErrors.CUPEL_VOCABULARY_TOKENIZER({ message, where: file });
  const model = (json?.['model'] ?? {}) as Readonly<Record<string, unknown>>;
  const kind = model['type'] ?? (Array.isArray(model['merges']) ? 'BPE' : 'of no type');
  if (json === null || kind !== 'BPE') throw refuse(`its model is ${JSON.stringify(kind)}, not "BPE"`);
  for (const name of ['continuing_subword_prefix', 'end_of_word_suffix']) {
    if (typeof model[name] === 'string' && model[name] !== '') throw refuse(`it has a ${name}`);
  }
  const vocabulary = new Map(Object.entries((model['vocab'] ?? {}) as Record<string, number>));
  const merges = Array.isArray(model['merges']) ? (model['merges'] as unknown[]) : [];
  const added = (Array.isArray(json['added_tokens']) ? json['added_tokens'] : []) as TokenizerFile['added'];
  const ids = [...vocabulary.values(), ...added.map(({ id }) => id)];
  if (vocabulary.size === 0 || !ids.every((id) => Number.isSafeInteger(id) && id >= 0 && id < 1 << 22)) {
    throw refuse('its vocabulary is empty, or holds ids that are no whole numbers');
  }
  let size = 0;
  for (const id of ids) size = Math.max(size, id + 1);
  return { json, vocabulary, merges, added, wholeWords: model['ignore_merges'] === true, size };
}

/** A token that is made of two others, appended as the last merge. */
export interface AppendedMerge {
  readonly left: string;
  readonly right: string;
  readonly id: number;
}

/**
 * The file with more merges, after all that it has: old merges act first and unchanged, so that every text is cut as it
 * was and then joined further. Tokens that stand beside the model's vocabulary alone are put into it too: readers count
 * their ids on from the size of the model's vocabulary, which grows.
 */
export function withMerges(file: TokenizerFile, appended: readonly AppendedMerge[]): Record<string, unknown> {
  const { json, vocabulary, merges, added } = file;
  // Older files write a merge as one text with a space.
  const asText = typeof merges[0] === 'string';
  const entries: [string, number][] = [
    ...vocabulary,
    ...added
      .filter(({ content }) => !vocabulary.has(content))
      .map(({ content, id }): [string, number] => [content, id]),
    ...appended.map(({ left, right, id }): [string, number] => [left + right, id]),
  ];
  return {
    ...json,
    model: {
      ...(json['model'] as object),
      vocab: Object.fromEntries(entries.sort((a, b) => a[1] - b[1])),
      merges: [...merges, ...appended.map(({ left, right }) => (asText ? `${left} ${right}` : [left, right]))],
    },
  };
}
