// The bench's model: SmolLM2-135M's shape with random weights, as a Hugging Face folder and as one Q8_0 GGUF that both
// engines load. Speeds do not depend on what the weights say; the texts are noise.
import { existsSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import native from '../../../engines/native/index.ts';
import { writeSafetensors, type Tensor } from '../../../src/kit/index.ts';
import { specialTokens, tokenizerFile, vocabulary, vocabularySize } from './vocabulary.ts';

/** https://huggingface.co/HuggingFaceTB/SmolLM2-135M/blob/main/config.json */
export const shape = {
  layers: 30,
  hidden: 576,
  heads: 9,
  keyValueHeads: 3,
  headSize: 64,
  feedForward: 1536,
  vocabulary: vocabularySize,
  context: 8192,
  ropeTheta: 100_000,
  epsilon: 1e-5,
} as const;

const seed = 7;
const ggufFile = 'model.gguf';
/** Raised when the files change, so that old ones are made anew. */
const version = 1;

export interface BenchModel {
  /** The bf16 Hugging Face folder. */
  readonly folder: string;
  /** Folder of the GGUF file, and the file. */
  readonly q8: string;
  readonly gguf: string;
  /** Folder with Cupel's int8 type. */
  readonly w8a8: string;
}

/** Makes the files under `root` unless they are there, the quantized ones with Cupel's own writer. */
export async function benchModel(root: string): Promise<BenchModel> {
  const folder = join(root, `smollm2-135m-shape-${version}`);
  if (!existsSync(folder)) await completed(folder, writeFolder);
  const quantized = async (name: string, type: string, file: string): Promise<string> => {
    const target = `${folder}-${name}`;
    if (!existsSync(target))
      await completed(target, async (temporary) => {
        await mkdir(temporary, { recursive: true });
        const checkpoint = { id: 'bench', path: folder };
        await native.quantize?.(checkpoint, { path: join(temporary, file), type, preTokenizer: 'smollm' });
      });
    return target;
  };
  const q8 = await quantized('q8_0', 'q8_0', ggufFile);
  return { folder, q8, gguf: join(q8, ggufFile), w8a8: join(await quantized('w8a8', 'w8a8', 'weights'), 'weights') };
}

/** Makes a folder whole or not at all. */
async function completed(folder: string, make: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = `${folder}.${process.pid}.tmp`;
  await rm(temporary, { recursive: true, force: true });
  await make(temporary);
  await rename(temporary, folder);
}

async function writeFolder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeSafetensors(join(folder, 'model.safetensors'), randomTensors());
  await writeFile(join(folder, 'config.json'), JSON.stringify(config(), undefined, 2));
  await writeFile(join(folder, 'tokenizer.json'), tokenizerFile(vocabulary()));
  await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify(tokenizerConfig(), undefined, 2));
}

function config(): Record<string, unknown> {
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

function tokenizerConfig(): Record<string, unknown> {
  return {
    tokenizer_class: 'PreTrainedTokenizerFast',
    model_max_length: shape.context,
    bos_token: specialTokens[0],
    eos_token: specialTokens[0],
    clean_up_tokenization_spaces: false,
    chat_template:
      "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}" +
      '{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}',
  };
}

/** Tensors under Hugging Face names; every value is exactly a bf16. */
function randomTensors(): Tensor[] {
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
  embeddings.data.fill(0, 0, specialTokens.length * hidden);
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
