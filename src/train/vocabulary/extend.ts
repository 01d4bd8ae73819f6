import { existsSync } from 'node:fs';
import { cp, mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Model, TrainingRecord, TrainingRow, VocabularyOptions } from '../../contracts/index.ts';
import { digestOf, readJson, writeFileAtomic } from '../../kit/index.ts';
import { templateDigest } from '../template-digest.ts';
import { type ChosenToken, chooseTokens } from './choose-tokens.ts';
import { vocabularyErrors } from './errors.ts';
import { extendWeights } from './extend-weights.ts';
import { type Fertility, fertilityOf, splitCorpus } from './fertility.ts';
import { readTokenizerFile, type TokenizerFile, withMerges } from './tokenizer-file.ts';
import { countWords, textsOf, writeMarkedTokenizer } from './words.ts';

export interface ExtensionInput {
  /** Absolute path of a Hugging Face folder, and the model over it. */
  readonly base: string;
  readonly model: Model;
  readonly rows: readonly TrainingRow[];
  readonly options: VocabularyOptions;
  /** Absolute path of the folder to write. */
  readonly output: string;
  /** Opens a folder as an engine does. Who asks closes it. */
  readonly open: (folder: string) => Promise<Model>;
}

export interface ExtensionReport {
  /** New tokens as text, with what each saved where it was chosen; in order of id. */
  readonly tokens: readonly { readonly id: number; readonly text: string; readonly saved: number }[];
  readonly vocabularySize: { readonly before: number; readonly after: number };
  readonly before: Fertility;
  readonly after: Fertility;
  /** Whether both were measured on documents that the tokens were not chosen from. */
  readonly heldOut: boolean;
}

/** What would be stale: the same vocabulary in other forms. */
const stale = new Set(['vocab.json', 'merges.txt', 'tokenizer.model']);

/**
 * Writes a checkpoint with more tokens, chosen from a corpus. Old ids stay what they were; every text is cut as before and
 * then joined further, and comes back the same.
 * @throws CUPEL_VOCABULARY_*, and the errors of a broken checkpoint
 */
export async function extendVocabulary(input: ExtensionInput): Promise<ExtensionReport> {
  const { base, model, rows, options, output, open } = input;
  if (existsSync(output)) {
    throw vocabularyErrors.CUPEL_VOCABULARY_OUTPUT_EXISTS({ message: `${output} exists`, where: output });
  }
  const documents = rows.flatMap(textsOfRow).filter((text) => text !== '');
  const { chosenFrom, heldOut } = splitCorpus(documents);
  const file = await readTokenizerFile(base);
  const partial = `${output}.partial`;
  const probe = `${output}.words`;
  try {
    await rm(partial, { recursive: true, force: true });
    await rm(probe, { recursive: true, force: true });
    const chosen = await choose(chosenFrom, file, options, probe, open);
    await write(input, file, chosen, partial);
    const extended = await open(partial);
    let report: ExtensionReport;
    try {
      const measured = heldOut ?? chosenFrom;
      checkRoundTrip(documents, model, extended);
      const texts = textsOf(file);
      report = {
        tokens: chosen.map(({ id, pieces, saved }) => ({
          id,
          text: extended.detokenize([id]) || pieces.map((piece) => texts.get(piece) ?? '').join(''),
          saved,
        })),
        vocabularySize: { before: model.vocabularySize, after: extended.vocabularySize },
        before: fertilityOf(measured, model),
        after: fertilityOf(measured, extended),
        heldOut: heldOut !== null,
      };
    } finally {
      await extended.close();
    }
    await writeFileAtomic(join(partial, 'cupel_run.json'), `${JSON.stringify(recordOf(input, report), null, 2)}\n`);
    await rename(partial, output);
    return report;
  } finally {
    await rm(partial, { recursive: true, force: true });
    await rm(probe, { recursive: true, force: true });
  }
}

async function choose(
  documents: readonly string[],
  file: TokenizerFile,
  options: VocabularyOptions,
  probe: string,
  open: ExtensionInput['open'],
): Promise<ChosenToken[]> {
  const marker = await writeMarkedTokenizer(probe, file);
  const marked = await open(probe);
  let words: ReturnType<typeof countWords>;
  try {
    words = countWords(documents, marked, marker, file);
  } finally {
    await marked.close();
  }
  const texts = textsOf(file);
  const known = new Set([...file.vocabulary.keys(), ...file.added.map(({ content }) => content)]);
  const chosen = chooseTokens(words, {
    tokens: options.tokens,
    minimumCount: options.minimumCount,
    firstId: file.size,
    taken: (pieces) => {
      const text = pieces.map((id) => texts.get(id) ?? '').join('');
      if (known.has(text)) return true;
      known.add(text);
      return false;
    },
  });
  if (chosen.length > 0) return chosen;
  throw vocabularyErrors.CUPEL_VOCABULARY_CORPUS({
    message: `no pair of tokens occurs ${options.minimumCount} times within the words of ${documents.length} texts`,
    where: 'data',
  });
}

async function write(
  { base, options }: ExtensionInput,
  file: TokenizerFile,
  chosen: readonly ChosenToken[],
  folder: string,
): Promise<void> {
  const config = await readJson<Readonly<Record<string, unknown>>>(join(base, 'config.json'));
  const oldRows = config['vocab_size'];
  if (typeof oldRows !== 'number' || !Number.isSafeInteger(oldRows) || oldRows < file.size) {
    throw vocabularyErrors.CUPEL_VOCABULARY_WEIGHTS({
      message: `vocab_size is ${JSON.stringify(oldRows)}; the tokenizer has ids up to ${file.size - 1}`,
      where: join(base, 'config.json'),
    });
  }
  const needed = file.size + chosen.length;
  // Rows that the base has beyond its tokens are used first.
  const rows = needed <= oldRows ? oldRows : Math.ceil(needed / options.multipleOf) * options.multipleOf;
  await mkdir(folder, { recursive: true });
  await extendWeights(base, folder, oldRows, { firstId: file.size, pieces: chosen.map(({ pieces }) => pieces), rows });
  for (const entry of await readdir(base, { withFileTypes: true })) {
    const kept = /\.(json|jinja|txt|model)$/.test(entry.name) && !/safetensors|cupel_run|card/.test(entry.name);
    if (entry.isFile() && kept && !stale.has(entry.name)) await cp(join(base, entry.name), join(folder, entry.name));
  }
  const texts = textsOf(file);
  const textOf = (pieces: readonly number[]): string => pieces.map((id) => texts.get(id) ?? '').join('');
  const piecesOf = (id: number): readonly number[] =>
    id < file.size ? [id] : (chosen[id - file.size] as ChosenToken).pieces;
  const appended = chosen.map(({ id, left, right }) => ({
    id,
    left: textOf(piecesOf(left)),
    right: textOf(piecesOf(right)),
  }));
  await writeFileAtomic(join(folder, 'tokenizer.json'), `${JSON.stringify(withMerges(file, appended), null, 2)}\n`);
  await writeFileAtomic(join(folder, 'config.json'), `${JSON.stringify({ ...config, vocab_size: rows }, null, 2)}\n`);
}

/** @throws CUPEL_VOCABULARY_ROUND_TRIP */
function checkRoundTrip(documents: readonly string[], before: Model, after: Model): void {
  for (const [index, document] of documents.entries()) {
    const [old, now] = [before.tokenize(document), after.tokenize(document)];
    if (now.length <= old.length && after.detokenize(now) === before.detokenize(old)) continue;
    throw vocabularyErrors.CUPEL_VOCABULARY_ROUND_TRIP({
      message: `text ${index + 1} had ${old.length} tokens and now has ${now.length}, or comes back changed`,
      where: 'data',
    });
  }
}

function recordOf({ model, rows, options }: ExtensionInput, report: ExtensionReport): TrainingRecord {
  const { before, after, tokens, vocabularySize } = report;
  return {
    version: 1,
    trainer: 'extend-vocabulary@1.0.0',
    parent: model.digest,
    recipeDigest: digestOf(options),
    dataDigest: digestOf({ data: rows, replay: [] }),
    templateDigest: templateDigest(model),
    seed: 0,
    steps: 0,
    trainedTokens: 0,
    metrics: {
      new_tokens: tokens.length,
      vocabulary_size: vocabularySize.after,
      fertility_before: before.tokens / Math.max(1, before.words),
      fertility_after: after.tokens / Math.max(1, after.words),
    },
  };
}

function textsOfRow(row: TrainingRow): string[] {
  if (row.kind === 'text') return [row.text];
  if (row.kind === 'messages') return row.messages.map(({ content }) => content);
  const prompt = row.prompt.map(({ content }) => content);
  return row.kind === 'preference' ? [...prompt, row.chosen] : [...prompt, row.answer];
}
