import { join } from 'node:path';
import { openTensors, readJson, type TensorSource } from '../../src/kit/index.ts';
import { mergeErrors } from './errors.ts';

/** A PEFT folder of a LoRA adapter, its factors by the weight that they change. */
export interface AdapterFolder {
  readonly tensors: TensorSource;
  readonly pairs: ReadonlyMap<string, AdapterPair>;
}

interface AdapterPair {
  /** Names of the tensors A [rank × inputs] and B [outputs × rank]. */
  readonly a: string;
  readonly b: string;
  readonly rank: number;
  readonly scale: number;
}

const factor = /^base_model\.model\.(.+)\.lora_([AB])\.weight$/;
/** What changes what an adapter computes, and is not computed here. */
const unsupported = [
  'use_dora',
  'lora_bias',
  'fan_in_fan_out',
  'modules_to_save',
  'trainable_token_indices',
  'target_parameters',
  'layer_replication',
] as const;

/**
 * Opens adapter_config.json and adapter_model.safetensors as PEFT 0.21 writes them.
 * @throws CUPEL_MERGE_ADAPTER for what is no LoRA adapter of these weights, or does more than W + scale · B A
 */
export async function openAdapter(
  folder: string,
  weights: ReadonlyMap<string, { readonly shape: readonly number[] }>,
): Promise<AdapterFolder> {
  const file = join(folder, 'adapter_config.json');
  const config = await readJson<Readonly<Record<string, unknown>> | null>(file);
  if (config?.['peft_type'] !== 'LORA')
    throw refused(file, `peft_type is ${JSON.stringify(config?.['peft_type'])}, not "LORA"`);
  const odd = unsupported.find((name) => !isEmpty(config[name]));
  if (odd !== undefined) throw refused(file, `${odd} is ${JSON.stringify(config[odd])}, which can not be merged`);
  if (!isEmpty(config['bias']) && config['bias'] !== 'none')
    throw refused(file, `bias is ${JSON.stringify(config['bias'])}`);
  const tensors = await openTensors(join(folder, 'adapter_model.safetensors'));
  try {
    const pairs = new Map<string, AdapterPair>();
    for (const [name, { shape }] of tensors.entries) {
      const [, module = '', part] = factor.exec(name) ?? [];
      const target = `${module}.weight`;
      const weight = weights.get(target)?.shape;
      if (weight === undefined) throw refused(folder, `${name} belongs to no weight of the base`);
      if (part === 'B') continue;
      const b = name.replace(/lora_A\.weight$/, 'lora_B.weight');
      const [rank = 0, inputs] = shape;
      const [outputs, rankOfB] = tensors.entries.get(b)?.shape ?? [];
      if (weight.length !== 2 || rank < 1 || rank !== rankOfB || outputs !== weight[0] || inputs !== weight[1]) {
        throw refused(
          folder,
          `A [${shape.join(', ')}] and B [${outputs ?? 'none'}, ${rankOfB ?? 'none'}] do not fit ${target} [${weight.join(', ')}]`,
        );
      }
      const alpha = alphaOf(config, module);
      if (typeof alpha !== 'number' || !(alpha > 0))
        throw refused(file, `lora_alpha of ${module} is ${JSON.stringify(alpha)}`);
      pairs.set(target, { a: name, b, rank, scale: alpha / (config['use_rslora'] === true ? Math.sqrt(rank) : rank) });
    }
    if (2 * pairs.size !== tensors.entries.size) throw refused(folder, 'a matrix B has no A');
    return { tensors, pairs };
  } catch (error) {
    await tensors.close();
    throw error;
  }
}

/** By the first key of alpha_pattern that ends the module's name; keys are read as plain names, `^` binds to the start. */
function alphaOf(config: Readonly<Record<string, unknown>>, module: string): unknown {
  const patterns = config['alpha_pattern'];
  for (const [key, alpha] of Object.entries(typeof patterns === 'object' && patterns !== null ? patterns : {})) {
    const name = key.replace(/^\^/, '').replace(/\$$/, '');
    if (module === name || (!key.startsWith('^') && module.endsWith(`.${name}`))) return alpha;
  }
  return config['lora_alpha'];
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null || value === false) return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

function refused(where: string, message: string): Error {
  return mergeErrors.CUPEL_MERGE_ADAPTER({ message, where });
}
