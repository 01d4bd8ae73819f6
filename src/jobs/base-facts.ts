import { join } from 'node:path';
import { openTensors, readJson } from '../kit/index.ts';

/** What defaults depend on. Null: could not be told from the folder. */
export interface BaseFacts {
  /** `model_type` of config.json, e.g. `llama`. */
  readonly family: string | null;
  readonly parameters: number | null;
}

/**
 * Family and size of a Hugging Face folder, from config.json and the headers of its safetensors files. Reads no weights.
 * What is wrong with a folder is the engine's to say.
 */
export async function baseFacts(folder: string): Promise<BaseFacts> {
  const config = await readJson<{ readonly model_type?: unknown }>(join(folder, 'config.json')).catch(() => null);
  const tensors = await openTensors(folder).catch(() => null);
  await tensors?.close();
  const sizes = [...(tensors?.entries.values() ?? [])].map(({ shape }) => shape.reduce((size, side) => size * side, 1));
  return {
    family: typeof config?.model_type === 'string' ? config.model_type : null,
    parameters: sizes.length === 0 ? null : sizes.reduce((sum, size) => sum + size, 0),
  };
}
