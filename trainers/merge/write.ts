import { existsSync } from 'node:fs';
import { copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { TrainingRecord } from '../../src/contracts/index.ts';
import { type Tensor, writeFileAtomic, writeTensors } from '../../src/kit/index.ts';
import { mergeErrors } from './errors.ts';
import type { Parent } from './parents.ts';

/** What belongs to a checkpoint beside its weights. */
const companions = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'tokenizer.model',
  'vocab.json',
  'merges.txt',
  'chat_template.jinja',
  'generation_config.json',
];

/** What is written: one tensor after another, each made from that of the donor and what else it takes. */
export interface MergeWork {
  /** Whose config and tokenizer the result gets. */
  readonly donor: Parent;
  readonly dtype: 'f32' | 'bf16';
  readonly merge: (name: string, own: Float32Array) => Promise<Float32Array>;
}

/**
 * Writes the merged weights, one tensor of every parent in memory at a time.
 * @returns ‖merged − donor‖ / ‖donor‖ over all weights
 * @throws CUPEL_MERGE_NOT_FINITE naming checkpoint, tensor and position
 */
export async function writeMerged(folder: string, work: MergeWork, onTensor: (name: string) => void): Promise<number> {
  const { donor, merge } = work;
  const dtype = work.dtype === 'f32' ? 'F32' : 'BF16';
  let [change, size] = [0, 0];
  await mkdir(folder, { recursive: true });
  const written = [...donor.entries.values()].map(({ name, shape }) => ({ name, shape, dtype }) as const);
  const read = readerOf(donor);
  await writeTensors(join(folder, 'model.safetensors'), written, async ({ name }) => {
    const own = await read(name);
    const merged = await merge(name, own);
    const position = firstNotFinite(merged);
    if (position >= 0) {
      throw mergeErrors.CUPEL_MERGE_NOT_FINITE({
        message: `merged, element ${position} of ${name} is ${merged[position]}`,
        where: folder,
      });
    }
    for (let index = 0; index < own.length; index++) {
      change += ((merged[index] as number) - (own[index] as number)) ** 2;
      size += (own[index] as number) ** 2;
    }
    onTensor(name);
    return merged;
  });
  for (const file of companions) {
    if (existsSync(join(donor.path, file))) await copyFile(join(donor.path, file), join(folder, file));
  }
  const stored = work.dtype === 'f32' ? 'float32' : 'bfloat16';
  // Both names of the number type are in use; the newer one stays alone where it stood alone.
  const types =
    'dtype' in donor.config && !('torch_dtype' in donor.config) ? { dtype: stored } : { torch_dtype: stored };
  await writeFileAtomic(join(folder, 'config.json'), `${JSON.stringify({ ...donor.config, ...types }, null, 2)}\n`);
  return size === 0 ? 0 : Math.sqrt(change / size);
}

export async function writeRecord(folder: string, record: TrainingRecord): Promise<void> {
  await writeFileAtomic(join(folder, 'cupel_run.json'), `${JSON.stringify(record, null, 2)}\n`);
}

/** Reads tensors of a parent into the same memory, each when the one before is done with. @throws CUPEL_MERGE_NOT_FINITE */
export function readerOf({ path, tensors, entries }: Parent): (name: string) => Promise<Float32Array> {
  const memory = new Float32Array(Math.max(...[...entries.values()].map(({ shape }) => elementsOf(shape))));
  return async (name) => finite(await tensors.read(name, memory), path);
}

export function finite({ name, data }: Tensor, path: string): Float32Array {
  const position = firstNotFinite(data);
  if (position < 0) return data;
  throw mergeErrors.CUPEL_MERGE_NOT_FINITE({
    message: `element ${position} of ${name} is ${data[position]}`,
    where: `${path}: ${name}`,
  });
}

function firstNotFinite(values: Float32Array): number {
  for (let index = 0; index < values.length; index++) if (!Number.isFinite(values[index])) return index;
  return -1;
}

function elementsOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}
