import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { OpenOptions } from '../../src/contracts/index.ts';
import { defineEngine, digestFolder, ggufFileOf } from '../../src/kit/index.ts';
import { addon } from './addon.ts';
import { nativeErrors } from './errors.ts';
import { openModel } from './model.ts';
import { checkedOptions } from './options.ts';
import { compare, quantize } from './quantize.ts';
import { isRewardFolder, openRewardModel } from './reward-model.ts';

const version = '0.2.0';
const modelTypes = new Set(['llama', 'mistral', 'qwen2', 'qwen3']);

export default defineEngine({
  summary:
    'built-in engine for Llama, Mistral, Qwen2 and Qwen3 checkpoints (Hugging Face folders, GGUF) on the CPU: batched, quantized and exact; trains',
  version,
  capabilities: {
    generate: true,
    score: true,
    jsonSchema: true,
    tools: false,
    learn: true,
    sampling: true,
    grammar: true,
    adapters: true,
  },

  async accepts({ path }) {
    try {
      if ((await ggufFileOf(path)) !== null) return true;
      const names = await readdir(path);
      if (!names.some((name) => name.endsWith('.safetensors'))) return false;
      const config = JSON.parse(await readFile(join(path, 'config.json'), 'utf8')) as { model_type?: unknown } | null;
      return typeof config?.model_type === 'string' && modelTypes.has(config.model_type);
    } catch {
      return false;
    }
  },

  async open({ path }, options: OpenOptions = {}) {
    const input = checkedOptions(options);
    const { weights = 'as-stored', kvCache = 'default' } = options;
    // Before the digest is begun, so that an engine that cannot be loaded leaves nothing behind.
    addon();
    // The digest is taken while the weights are packed on other threads.
    const digest = digestFolder(path).catch((cause: unknown) => {
      throw nativeErrors.CUPEL_NATIVE_IO({
        message: `the checkpoint could not be read: ${(cause as Error).message}`,
        where: path,
        cause,
      });
    });
    const open = (await isRewardFolder(path)) ? openRewardModel : openModel;
    return open({ path, digest, engine: `native@${version}`, settings: { weights, kvCache }, input });
  },

  quantize,
  compare,
});
