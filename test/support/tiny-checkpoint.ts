import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Random, writeSafetensors, type Tensor } from '../../src/kit/index.ts';

/** Special tokens at ids 0.., as in the shared format of the tiny base. */
export const specialTokens = ['<|pad|>', '<|end|>', '<|system|>', '<|user|>', '<|assistant|>', '<|tool|>'];

const merges: [string, string][] = [
  ['t', 'h'],
  ['th', 'e'],
  ['i', 'n'],
  ['"', ':'],
  ['":', 'Ġ'],
  ['Ã', '©'],
];

export const tinyTemplate =
  "{%- for message in messages -%}\n{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}\n{%- endfor -%}\n{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}\n";

export interface TinyOptions {
  readonly seed?: number;
  /** Standard deviation of the random weights; large ones give lively texts. */
  readonly scale?: number;
  readonly contextLength?: number;
  readonly modelType?: 'llama' | 'qwen2';
  readonly tied?: boolean;
}

/** The characters that byte-level BPE writes for the bytes 0..255 (GPT-2's table). */
function byteCharacters(): string[] {
  const printable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++));
}

/** A tokenizer.json of byte-level BPE: the special tokens, all bytes, a few merges. */
export function tinyTokenizer(): Record<string, unknown> {
  const pieces = [...byteCharacters(), ...merges.map(([left, right]) => left + right)];
  const vocab = Object.fromEntries([...specialTokens, ...pieces].map((piece, id) => [piece, id]));
  return {
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
      vocab,
      merges,
    },
  };
}

/** Shapes of a tiny model; four rows of the embedding have no token. */
export function tinyConfig(options: TinyOptions = {}): Record<string, number | string | boolean> {
  return {
    model_type: options.modelType ?? 'llama',
    hidden_size: 32,
    intermediate_size: 64,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    vocab_size: specialTokens.length + 256 + merges.length + 4,
    max_position_embeddings: options.contextLength ?? 256,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    tie_word_embeddings: options.tied ?? true,
    hidden_act: 'silu',
    bos_token_id: 1,
    eos_token_id: 1,
    torch_dtype: 'float32',
  };
}

/** Random weights for a config, equal for equal seeds. */
export function tinyTensors(config: Record<string, number | string | boolean>, options: TinyOptions = {}): Tensor[] {
  const size = (name: string): number => Number(config[name]);
  const [hidden, inner, vocabulary] = [size('hidden_size'), size('intermediate_size'), size('vocab_size')];
  const keyValue = (hidden / size('num_attention_heads')) * size('num_key_value_heads');
  const seed = options.seed ?? 7;
  const scale = options.scale ?? 0.3;
  const filled = (name: string, shape: number[], value: (random: Random) => number): Tensor => {
    const random = new Random(seed, name);
    const count = shape.reduce((product, dimension) => product * dimension, 1);
    return { name, dtype: 'F32', shape, data: Float32Array.from({ length: count }, () => value(random)) };
  };
  const weight = (name: string, ...shape: number[]): Tensor => filled(name, shape, (random) => random.normal() * scale);
  const norm = (name: string): Tensor => filled(name, [hidden], (random) => 1 + random.normal() * 0.1);
  const layers = Array.from({ length: size('num_hidden_layers') }, (_, layer) => {
    const prefix = `model.layers.${layer}`;
    const biases =
      config['model_type'] === 'qwen2'
        ? [
            weight(`${prefix}.self_attn.q_proj.bias`, hidden),
            weight(`${prefix}.self_attn.k_proj.bias`, keyValue),
            weight(`${prefix}.self_attn.v_proj.bias`, keyValue),
          ]
        : [];
    return [
      norm(`${prefix}.input_layernorm.weight`),
      weight(`${prefix}.self_attn.q_proj.weight`, hidden, hidden),
      weight(`${prefix}.self_attn.k_proj.weight`, keyValue, hidden),
      weight(`${prefix}.self_attn.v_proj.weight`, keyValue, hidden),
      weight(`${prefix}.self_attn.o_proj.weight`, hidden, hidden),
      ...biases,
      norm(`${prefix}.post_attention_layernorm.weight`),
      weight(`${prefix}.mlp.gate_proj.weight`, inner, hidden),
      weight(`${prefix}.mlp.up_proj.weight`, inner, hidden),
      weight(`${prefix}.mlp.down_proj.weight`, hidden, inner),
    ];
  });
  return [
    weight('model.embed_tokens.weight', vocabulary, hidden),
    ...layers.flat(),
    norm('model.norm.weight'),
    ...(config['tie_word_embeddings'] === true ? [] : [weight('lm_head.weight', vocabulary, hidden)]),
  ];
}

/** Writes a whole checkpoint of random weights and returns its folder. */
export async function writeTinyCheckpoint(options: TinyOptions = {}, folder?: string): Promise<string> {
  const path = folder ?? (await mkdtemp(join(tmpdir(), 'cupel-tiny-')));
  await mkdir(path, { recursive: true });
  const config = tinyConfig(options);
  const json = (name: string, value: unknown): Promise<void> =>
    writeFile(join(path, name), JSON.stringify(value, null, 1));
  await json('config.json', config);
  await json('tokenizer.json', tinyTokenizer());
  await json('tokenizer_config.json', {
    eos_token: '<|end|>',
    pad_token: '<|pad|>',
    tokenizer_class: 'PreTrainedTokenizerFast',
  });
  await json('generation_config.json', { eos_token_id: 1, pad_token_id: 0 });
  await writeFile(join(path, 'chat_template.jinja'), tinyTemplate);
  await writeSafetensors(join(path, 'model.safetensors'), tinyTensors(config, options));
  return path;
}
