import { readdir, readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { OpenOptions } from '../../src/contracts/index.ts';
import { defineEngine, digestFolder } from '../../src/kit/index.ts';
import { nativeErrors } from './errors.ts';
import { openModel } from './model.ts';

const version = '0.1.0';
const modelTypes = new Set(['llama', 'qwen2']);

export default defineEngine({
  summary:
    'built-in engine for small Llama and Qwen2 checkpoints on the CPU: deterministic generation, scoring, training',
  version,
  capabilities: { generate: true, score: true, jsonSchema: true, tools: false, learn: true },

  async accepts({ path }) {
    try {
      const names = await readdir(path);
      if (!names.some((name) => name.endsWith('.safetensors'))) return false;
      const config = JSON.parse(await readFile(join(path, 'config.json'), 'utf8')) as { model_type?: unknown } | null;
      return typeof config?.model_type === 'string' && modelTypes.has(config.model_type);
    } catch {
      return false;
    }
  },

  async open({ path }, options: OpenOptions = {}) {
    const threads = wholeNumber('threads', options.threads ?? availableParallelism());
    const maxBatch = wholeNumber('maxBatch', options.maxBatch ?? 16);
    let digest: string;
    try {
      digest = await digestFolder(path);
    } catch (cause) {
      throw nativeErrors.CUPEL_NATIVE_IO({
        message: `the checkpoint could not be read: ${(cause as Error).message}`,
        where: path,
        cause,
      });
    }
    return openModel({ path, digest, engine: `native@${version}`, threads, maxBatch });
  },
});

function wholeNumber(name: string, value: number): number {
  if (Number.isSafeInteger(value) && value >= 1 && value <= 4096) return value;
  throw nativeErrors.CUPEL_NATIVE_REQUEST_INVALID({
    message: `${name} is ${value}; a whole number from 1 to 4096 was expected`,
    where: name,
  });
}
