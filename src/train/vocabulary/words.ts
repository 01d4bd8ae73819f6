import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Model } from '../../contracts/index.ts';
import { writeTensors } from '../../kit/index.ts';
import type { TokenizerFile } from './tokenizer-file.ts';

/** A piece of text within which tokens may be joined, as ids, and how often the corpus has it. */
export interface CountedWord {
  readonly pieces: readonly number[];
  readonly count: number;
}

/** From a private plane: no tokenizer has it, and no step between text and pieces makes it. */
const marker = '\uE000';

/**
 * Writes a checkpoint whose tokenizer is that of the base with a marker before every word, and whose weights are empty.
 * How a tokenizer cuts text into words is written nowhere but in its pre-tokenizer; opened by the engine, this folder
 * says it in the engine's own words, without a second reading of those rules.
 * @returns id of the marker
 */
export async function writeMarkedTokenizer(folder: string, file: TokenizerFile): Promise<number> {
  const id = file.size;
  const own = file.json['pre_tokenizer'];
  const mark = { type: 'Metaspace', replacement: marker, prepend_scheme: 'always', split: false };
  const model = file.json['model'] as object;
  await mkdir(folder, { recursive: true });
  const vocab = Object.fromEntries([
    ...file.vocabulary,
    ...file.added.map(({ content, id: known }): [string, number] => [content, known]),
    [marker, id],
  ]);
  await writeFile(
    join(folder, 'tokenizer.json'),
    JSON.stringify({
      ...file.json,
      post_processor: null,
      pre_tokenizer: { type: 'Sequence', pretokenizers: own === null || own === undefined ? [mark] : [own, mark] },
      // A marked word is never a token.
      model: { ...model, vocab, ignore_merges: false },
    }),
  );
  const [width, rows] = [8, file.size + 1];
  const config = {
    model_type: 'llama',
    architectures: ['LlamaForCausalLM'],
    hidden_size: width,
    intermediate_size: width,
    num_hidden_layers: 1,
    num_attention_heads: 1,
    num_key_value_heads: 1,
    head_dim: width,
    vocab_size: rows,
    max_position_embeddings: 16,
    rms_norm_eps: 1e-5,
    tie_word_embeddings: true,
    eos_token_id: 0,
  };
  await writeFile(join(folder, 'config.json'), JSON.stringify(config));
  const layer = 'model.layers.0';
  const square = ['q_proj', 'k_proj', 'v_proj', 'o_proj'].map((name) => `${layer}.self_attn.${name}.weight`);
  const feed = ['gate_proj', 'up_proj', 'down_proj'].map((name) => `${layer}.mlp.${name}.weight`);
  const norms = ['model.norm', `${layer}.input_layernorm`, `${layer}.post_attention_layernorm`];
  const shapes = new Map<string, number[]>([
    ['model.embed_tokens.weight', [rows, width]],
    ...[...square, ...feed].map((name): [string, number[]] => [name, [width, width]]),
    ...norms.map((name): [string, number[]] => [`${name}.weight`, [width]]),
  ]);
  await writeTensors(
    join(folder, 'model.safetensors'),
    [...shapes].map(([name, shape]) => ({ name, shape, dtype: 'BF16' })),
    ({ name }) => Promise.resolve(new Float32Array((shapes.get(name) ?? []).reduce((size, side) => size * side, 1))),
  );
  return id;
}

/**
 * Counts the words of documents. Added tokens, bytes that stand for themselves and the unknown token end a word: what
 * would be joined with them could not be written back.
 * @param marked the model over `writeMarkedTokenizer`
 */
export function countWords(
  documents: readonly string[],
  marked: Pick<Model, 'tokenize'>,
  markerId: number,
  file: TokenizerFile,
): CountedWord[] {
  const texts = textsOf(file);
  const model = file.json['model'] as { readonly unk_token?: unknown };
  const closed = new Set([markerId, ...file.added.map(({ id }) => id)]);
  for (const [text, id] of file.vocabulary) {
    if (text === model.unk_token || /^<0x[0-9A-F]{2}>$/.test(text)) closed.add(id);
  }
  const words = new Map<string, { pieces: number[]; count: number }>();
  const take = (pieces: number[]): void => {
    const whole = file.wholeWords ? file.vocabulary.get(pieces.map((id) => texts.get(id) ?? '').join('')) : undefined;
    if (pieces.length < 2 || whole !== undefined) return;
    const key = pieces.join(' ');
    const known = words.get(key);
    if (known === undefined) words.set(key, { pieces, count: 1 });
    else known.count++;
  };
  for (const document of documents) {
    let pieces: number[] = [];
    for (const id of marked.tokenize(document)) {
      // Tokenizers without a pre-tokenizer mark where words begin in the pieces themselves.
      if (closed.has(id) || texts.get(id)?.startsWith('▁') === true) {
        take(pieces);
        pieces = closed.has(id) ? [] : [id];
      } else pieces.push(id);
    }
    take(pieces);
  }
  return [...words.values()];
}

/** Text of each token of the model's vocabulary, as the file writes it. */
export function textsOf(file: TokenizerFile): Map<number, string> {
  return new Map([...file.vocabulary].map(([text, id]) => [id, text]));
}
