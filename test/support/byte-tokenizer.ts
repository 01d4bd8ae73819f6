/** The character that stands for each byte in byte-level vocabularies: printable ones for themselves, others from U+0100. */
function byteCharacters(): string[] {
  const plain = (byte: number): boolean =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(plain(byte) ? byte : next++));
}

/** A tokenizer.json of exactly `size` tokens for models that came without one: two special tokens, then single bytes. */
export function byteTokenizer(size: number): Record<string, unknown> {
  const special = ['<s>', '</s>'];
  const bytes = byteCharacters();
  const printable = [...bytes.slice(33, 127), ...bytes.slice(0, 33), ...bytes.slice(127)];
  const vocabulary = Object.fromEntries([...special, ...printable].slice(0, size).map((token, id) => [token, id]));
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: special.map((content, id) => ({ id, content, ...flags })),
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: vocabulary,
      merges: [],
    },
  };
}
