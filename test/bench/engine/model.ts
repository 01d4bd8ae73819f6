// The bench's model: SmolLM2-135M's shape with random weights, as a Hugging Face folder and as one Q8_0 GGUF that both
// engines load. Speeds do not depend on what the weights say; the texts are noise.
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import native from '../../../engines/native/index.ts';
import { completed, type LlamaShape, writeLlama } from '../lib/llama-folder.ts';
import { specialTokens, tokenizerFile, vocabulary, vocabularySize } from './vocabulary.ts';

/** https://huggingface.co/HuggingFaceTB/SmolLM2-135M/blob/main/config.json */
export const shape: LlamaShape = {
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
};

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

async function writeFolder(folder: string): Promise<void> {
  await writeLlama(folder, shape, { seed, specialTokens: specialTokens.length });
  await writeFile(join(folder, 'tokenizer.json'), tokenizerFile(vocabulary()));
  await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify(tokenizerConfig(), undefined, 2));
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
