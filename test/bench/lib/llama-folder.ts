// Llama checkpoints with random weights, for benches: speeds do not depend on what the weights say.
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeSafetensors, type Tensor } from '../../../src/kit/index.ts';

export interface LlamaShape {
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headSize: number;
  readonly feedForward: number;
  readonly vocabulary: number;
  readonly context: number;
  readonly ropeTheta: number;
  readonly epsilon: number;
}

/** Makes a folder whole or not at all. */
export async function completed(folder: string, make: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = `${folder}.${process.pid}.tmp`;
  await rm(temporary, { recursive: true, force: true });
  await make(temporary);
  await rename(temporary, folder);
}

/** Writes a tied bf16 Hugging Face folder without a tokenizer; rows of special tokens are zero. */
export async function writeLlama(
  folder: string,
  shape: LlamaShape,
  { seed, specialTokens }: { readonly seed: number; readonly specialTokens: number },
): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeSafetensors(join(folder, 'model.safetensors'), randomTensors(shape, seed, specialTokens));
  await writeFile(join(folder, 'config.json'), JSON.stringify(config(shape), undefined, 2));
}

function config(shape: LlamaShape): Record<string, unknown> {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_size: shape.hidden,
    intermediate_size: shape.feedForward,
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.keyValueHeads,
    head_dim: shape.headSize,
    vocab_size: shape.vocabulary,
    max_position_embeddings: shape.context,
    rope_theta: shape.ropeTheta,
    rms_norm_eps: shape.epsilon,
    hidden_act: 'silu',
    attention_bias: false,
    mlp_bias: false,
    tie_word_embeddings: true,
    bos_token_id: 0,
    eos_token_id: 0,
    torch_dtype: 'bfloat16',
  };
}

/** Tensors under Hugging Face names; every value is exactly a bf16. */
function randomTensors(shape: LlamaShape, seed: number, specialTokens: number): Tensor[] {
  const { hidden, heads, keyValueHeads, headSize, feedForward, layers } = shape;
  const normal = randomNormals(seed);
  const matrix = (name: string, rows: number, columns: number): Tensor => ({
    name,
    dtype: 'BF16',
    shape: [rows, columns],
    data: normal(rows * columns, 1 / Math.sqrt(columns)),
  });
  const norm = (name: string): Tensor => ({
    name,
    dtype: 'BF16',
    shape: [hidden],
    data: new Float32Array(hidden).fill(1),
  });
  const embeddings = matrix('model.embed_tokens.weight', shape.vocabulary, hidden);
  embeddings.data.fill(0, 0, specialTokens * hidden);
  const tensors = [embeddings, norm('model.norm.weight')];
  for (let layer = 0; layer < layers; layer++) {
    const prefix = `model.layers.${layer}`;
    tensors.push(
      norm(`${prefix}.input_layernorm.weight`),
      matrix(`${prefix}.self_attn.q_proj.weight`, heads * headSize, hidden),
      matrix(`${prefix}.self_attn.k_proj.weight`, keyValueHeads * headSize, hidden),
      matrix(`${prefix}.self_attn.v_proj.weight`, keyValueHeads * headSize, hidden),
      matrix(`${prefix}.self_attn.o_proj.weight`, hidden, heads * headSize),
      norm(`${prefix}.post_attention_layernorm.weight`),
      matrix(`${prefix}.mlp.gate_proj.weight`, feedForward, hidden),
      matrix(`${prefix}.mlp.up_proj.weight`, feedForward, hidden),
      matrix(`${prefix}.mlp.down_proj.weight`, hidden, feedForward),
    );
  }
  return tensors;
}

/**
 * Nearly normal values (sum of the four bytes of an xorshift32 draw), cut to bf16. Not the kit's generator, which would
 * take a minute for so many values; nothing but a bench depends on them.
 */
function randomNormals(start: number): (count: number, deviation: number) => Float32Array {
  let state = (start * 0x9e3779b9) >>> 0 || 1;
  const byteSumDeviation = Math.sqrt((4 * (256 ** 2 - 1)) / 12);
  return (count, deviation) => {
    const values = new Float32Array(count);
    const factor = deviation / byteSumDeviation;
    for (let index = 0; index < count; index++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      const sum = (state & 255) + ((state >>> 8) & 255) + ((state >>> 16) & 255) + (state >>> 24);
      values[index] = (sum - 510) * factor;
    }
    const bits = new Uint32Array(values.buffer);
    for (let index = 0; index < count; index++) bits[index] = (bits[index] as number) & 0xffff0000;
    return values;
  };
}
