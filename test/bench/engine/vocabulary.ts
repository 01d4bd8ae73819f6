// The bench model's tokenizer: a byte-level BPE with as many tokens as SmolLM2's, made without a corpus. Its merges make
// every lower-case word of one to three letters after a space exactly one token, so that a text of n such words is n
// tokens for every engine that reads the file.

/** Entries of SmolLM2's vocabulary. */
export const vocabularySize = 49_152;
/** Ids of the special tokens; their embeddings are zero, so that no greedy text of random weights ends early. */
export const specialTokens = ['<|endoftext|>', '<|im_start|>', '<|im_end|>'] as const;

const letters = [...'abcdefghijklmnopqrstuvwxyz'];
/** The words that are one token with the space before them. */
const words = letters.flatMap((a) => letters.flatMap((b) => letters.map((c) => a + b + c)));

/** GPT-2's printable stand-ins for the 256 bytes, in the order of the bytes. */
function byteAlphabet(): string[] {
  const printable = (byte: number): boolean =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++));
}

const space = 'Ġ';

function* allMerges(): Generator<readonly [string, string]> {
  for (const a of letters) yield [space, a];
  for (const a of letters) for (const b of letters) yield [space + a, b];
  for (const word of words) yield [space + word.slice(0, 2), word.slice(2)];
  for (const a of letters) for (const b of letters) yield [a, b];
  for (const word of words) yield [word.slice(0, 2), word.slice(2)];
  for (const word of words) for (const d of letters) yield [space + word, d];
}

export interface Vocabulary {
  /** Token texts in byte alphabet, by id. */
  readonly tokens: readonly string[];
  readonly merges: readonly (readonly [string, string])[];
}

export function vocabulary(): Vocabulary {
  const tokens: string[] = [...specialTokens, ...byteAlphabet()];
  const merges: (readonly [string, string])[] = [];
  for (const merge of allMerges()) {
    if (tokens.length === vocabularySize) break;
    merges.push(merge);
    tokens.push(merge.join(''));
  }
  return { tokens, merges };
}

/** First id of the tokens that are a space and a word of three letters. */
const firstWord = specialTokens.length + 256 + letters.length + letters.length ** 2;

/** Id of the token ` <word>` number `index` (below 17,576). */
export function wordToken(index: number): number {
  return firstWord + (index % words.length);
}

/** The text of tokens that `wordToken` gave. */
export function textOf(tokens: readonly number[]): string {
  return tokens.map((token) => ` ${words[token - firstWord] as string}`).join('');
}

/** tokenizer.json as Hugging Face's tokenizers write it, with SmolLM2's pre-tokenizer: single digits, then GPT-2's. */
export function tokenizerFile({ tokens, merges }: Vocabulary): string {
  const level = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  return JSON.stringify({
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: specialTokens.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'Digits', individual_digits: true }, level] },
    post_processor: null,
    decoder: level,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
  });
}
