import { existsSync } from 'node:fs';
import { join } from 'node:path';
import {
  canonicalJson,
  openTensors,
  readJson,
  type TensorDtype,
  type TensorSource,
  vocabularyDifference,
} from '../../src/kit/index.ts';
import { mergeErrors } from './errors.ts';

/** A checkpoint folder whose tensors can be read one at a time. */
export interface Parent {
  readonly path: string;
  readonly config: Readonly<Record<string, unknown>>;
  /** Head and embedding are one tensor. */
  readonly tied: boolean;
  readonly tensors: TensorSource;
  /** Shapes and types of what is merged: with a tied head, the embedding alone stands for both. */
  readonly entries: ReadonlyMap<
    string,
    { readonly name: string; readonly dtype: TensorDtype; readonly shape: readonly number[] }
  >;
}

/** @throws CUPEL_MERGE_CHECKPOINT, and the errors of a broken safetensors file */
export async function openParent(path: string): Promise<Parent> {
  const file = join(path, 'config.json');
  if (!existsSync(file)) {
    throw mergeErrors.CUPEL_MERGE_CHECKPOINT({ message: 'there is no config.json', where: path });
  }
  const config = await readJson<unknown>(file);
  if (typeof config !== 'object' || config === null || Array.isArray(config)) {
    throw mergeErrors.CUPEL_MERGE_CHECKPOINT({ message: 'config.json is not an object', where: file });
  }
  const fields = config as Record<string, unknown>;
  if (fields['quantization_config'] !== undefined && fields['quantization_config'] !== null) {
    throw mergeErrors.CUPEL_MERGE_CHECKPOINT({ message: 'its weights are quantized', where: file });
  }
  const tied = fields['tie_word_embeddings'] === true;
  const tensors = await openTensors(path);
  const entries = new Map([...tensors.entries].filter(([name]) => !(tied && name === 'lm_head.weight')));
  return { path, config: fields, tied, tensors, entries };
}

/** Fields of config.json that say which function the weights compute. */
const networkFields = [
  'model_type',
  'hidden_size',
  'intermediate_size',
  'num_hidden_layers',
  'num_attention_heads',
  'num_key_value_heads',
  'head_dim',
  'hidden_act',
  'rms_norm_eps',
  'rope_theta',
  'rope_scaling',
  'rope_parameters',
  'sliding_window',
  'vocab_size',
] as const;

/**
 * Refuses what can not be merged, by the name of what differs.
 * @throws CUPEL_MERGE_ARCHITECTURE, CUPEL_MERGE_TIED_HEAD, CUPEL_MERGE_TENSORS, CUPEL_MERGE_VOCABULARY
 */
export async function checkAgreement(first: Parent, other: Parent): Promise<void> {
  const where = `${other.path} beside ${first.path}`;
  for (const field of networkFields) {
    const [a, b] = [first.config[field], other.config[field]];
    if (a === undefined || b === undefined || canonicalJson(a) === canonicalJson(b)) continue;
    throw mergeErrors.CUPEL_MERGE_ARCHITECTURE({
      message: `${field} is ${JSON.stringify(b)} in one and ${JSON.stringify(a)} in the other`,
      where,
    });
  }
  if (first.tied !== other.tied) {
    const [tied, untied] = first.tied ? [first, other] : [other, first];
    throw mergeErrors.CUPEL_MERGE_TIED_HEAD({
      message: `the head of ${tied.path} is its embedding, that of ${untied.path} is a tensor of its own`,
      where,
    });
  }
  const missing = [...first.entries.keys()].filter((name) => !other.entries.has(name));
  const surplus = [...other.entries.keys()].filter((name) => !first.entries.has(name));
  for (const [names, what] of [
    [missing, 'lacks'],
    [surplus, 'has beyond the other'],
  ] as const) {
    if (names.length === 0) continue;
    throw mergeErrors.CUPEL_MERGE_TENSORS({
      message: `${other.path} ${what} ${names.length} tensors: ${names.slice(0, 5).join(', ')}`,
      where,
    });
  }
  for (const [name, { shape }] of first.entries) {
    const own = other.entries.get(name)?.shape ?? [];
    if (own.join() === shape.join()) continue;
    throw mergeErrors.CUPEL_MERGE_TENSORS({
      message: `${name} has shape [${own.join(', ')}] in one and [${shape.join(', ')}] in the other`,
      where,
    });
  }
  const difference = await vocabularyDifference(first.path, other.path);
  if (difference !== null) throw mergeErrors.CUPEL_MERGE_VOCABULARY({ message: difference, where });
}
