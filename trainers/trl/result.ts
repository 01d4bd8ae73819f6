import { copyFile, mkdir, readFile, rename, rm } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Learner, TrainingRecord, TrainJob } from '../../src/contracts/index.ts';
import { digestOf, openTensors, readJson, writeFileAtomic } from '../../src/kit/index.ts';
import { trlErrors } from './errors.ts';
import type { Probe } from './events.ts';
import { defaultTargets } from './job-folder.ts';
import type { TrlJob } from './parameters.ts';
import type { ChildRow } from './rows.ts';

/** Files of a base that a trained checkpoint takes over as they are. */
const companions = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template.jinja',
  'chat_template.json',
  'generation_config.json',
  'tokenizer.model',
  'vocab.json',
  'vocab.txt',
  'merges.txt',
];

/**
 * Takes over what the child wrote: tokenizer, template and config come from the base, which training does not change;
 * tensors must be those of the base, finite, and of the type that was asked for; and the weights must score a row as
 * the child said they do. Only then the folder gets its name.
 * @throws CUPEL_TRL_RESULT
 */
export async function takeResult(
  job: TrainJob & { readonly base: NonNullable<TrainJob['base']> },
  trl: TrlJob,
  rows: readonly ChildRow[],
  probes: readonly Probe[],
  record: TrainingRecord,
  partial: string,
): Promise<void> {
  const { tuning, dtype } = trl.recipe;
  const adapter = tuning.kind !== 'full' && tuning.save === 'adapter';
  if (!existsSync(partial)) throw wrong(partial, 'there is no folder');
  if (adapter) await takeAdapter(partial, job.base.path, trl);
  else {
    await takeConfig(job.base.path, partial, dtype);
    await checkTensors(partial, job.base.path, dtype);
  }
  // Without a score nothing would show that the weights are those that were trained.
  if (probes.length === 0) throw wrong(partial, 'the child scored no row');
  await checkScores(job, trl, rows, probes, partial, adapter);
  await writeFileAtomic(join(partial, 'cupel_run.json'), `${JSON.stringify(record, null, 2)}\n`);
  await rename(partial, job.output);
}

async function takeConfig(base: string, folder: string, dtype: 'f32' | 'bf16'): Promise<void> {
  const { torch_dtype: _, ...config } = await readJson<Record<string, unknown>>(join(base, 'config.json'));
  const changed = { ...config, dtype: dtype === 'f32' ? 'float32' : 'bfloat16' };
  await writeFileAtomic(join(folder, 'config.json'), `${JSON.stringify(changed, null, 2)}\n`);
  for (const name of companions) {
    await rm(join(folder, name), { force: true });
    if (existsSync(join(base, name))) await copyFile(join(base, name), join(folder, name));
  }
}

async function checkTensors(folder: string, base: string, dtype: 'f32' | 'bf16'): Promise<void> {
  const [found, expected] = [await openTensors(folder), await openTensors(base)];
  try {
    const config = await readJson<{ tie_word_embeddings?: boolean }>(join(base, 'config.json'));
    for (const [name, { shape }] of expected.entries) {
      const tensor = found.entries.get(name);
      if (tensor === undefined && name === 'lm_head.weight' && config.tie_word_embeddings === true) continue;
      if (tensor === undefined) throw wrong(folder, `tensor ${name} is missing`);
      if (tensor.shape.join() !== shape.join()) {
        throw wrong(
          folder,
          `tensor ${name} has shape [${tensor.shape.join(', ')}], the base has [${shape.join(', ')}]`,
        );
      }
    }
    for (const [name, entry] of found.entries) {
      if (!expected.entries.has(name) && name !== 'lm_head.weight')
        throw wrong(folder, `tensor ${name} is not in the base`);
      if (entry.dtype !== (dtype === 'f32' ? 'F32' : 'BF16')) throw wrong(folder, `tensor ${name} is ${entry.dtype}`);
      checkFinite(folder, name, (await found.read(name)).data);
    }
  } finally {
    await found.close();
    await expected.close();
  }
}

/** Both matrices of every adapted projection must be there; the configuration loses the path of the base. */
async function takeAdapter(folder: string, base: string, { recipe }: TrlJob): Promise<void> {
  const { tuning } = recipe;
  if (tuning.kind === 'full') return;
  const file = join(folder, 'adapter_config.json');
  const config = await readJson<Record<string, unknown>>(file);
  if (config['r'] !== tuning.rank || config['lora_alpha'] !== tuning.alpha) {
    throw wrong(
      folder,
      `adapter_config.json has r ${String(config['r'])} and lora_alpha ${String(config['lora_alpha'])}`,
    );
  }
  const targets = tuning.targets ?? defaultTargets;
  const [tensors, weights] = [await openTensors(join(folder, 'adapter_model.safetensors')), await openTensors(base)];
  try {
    const expected = new Map<string, string>();
    for (const { name, shape } of weights.entries.values()) {
      if (!targets.includes(/([^.]+)\.weight$/.exec(name)?.[1] ?? '')) continue;
      const module = `base_model.model.${name.replace(/\.weight$/, '')}`;
      expected.set(`${module}.lora_A.weight`, [tuning.rank, shape[1]].join());
      expected.set(`${module}.lora_B.weight`, [shape[0], tuning.rank].join());
    }
    const missing = [...expected.keys()].find((name) => !tensors.entries.has(name));
    if (missing !== undefined || expected.size === 0)
      throw wrong(folder, `the adapter lacks ${missing ?? 'everything'}`);
    for (const [name, entry] of tensors.entries) {
      const shape = expected.get(name);
      if (shape === undefined) throw wrong(folder, `the adapter holds ${name}`);
      if (entry.shape.join() !== shape)
        throw wrong(folder, `tensor ${name} has shape [${entry.shape.join()}], not [${shape}]`);
      checkFinite(folder, name, (await tensors.read(name)).data);
    }
  } finally {
    await tensors.close();
    await weights.close();
  }
  // PEFT writes the path of the base on this machine, and the targets in the order of a hash table.
  const portable = { ...config, base_model_name_or_path: null, target_modules: [...targets].sort() };
  await writeFileAtomic(file, `${JSON.stringify(portable, null, 2)}\n`);
}

function checkFinite(folder: string, name: string, data: Float32Array): void {
  const at = data.findIndex((value) => !Number.isFinite(value));
  if (at >= 0) throw wrong(folder, `value ${at} of tensor ${name} is ${data[at]}`);
}

/**
 * Scores the probed rows by this project's own engine. Per token, f32 weights agree to about 1e-5 between engines;
 * weights rounded to bf16, and a child that computes in bf16, move a log-probability by up to some hundredths.
 */
async function checkScores(
  job: TrainJob & { readonly base: NonNullable<TrainJob['base']> },
  trl: TrlJob,
  rows: readonly ChildRow[],
  probes: readonly Probe[],
  folder: string,
  adapter: boolean,
): Promise<void> {
  const { tuning, dtype, compute } = trl.recipe;
  if (job.openSaved === undefined) return;
  let learner: Learner;
  if (adapter && tuning.kind !== 'full') {
    const { rank, alpha, targets = defaultTargets } = tuning;
    learner = await job.openSaved(job.base.path, { adapter: { rank, alpha, targets, from: folder } });
  } else learner = await job.openSaved(folder, { frozen: true });
  const allowed = compute === 'f32' && (adapter || dtype === 'f32') ? 1e-3 : 1e-1;
  try {
    for (const { row, logProbability, tokens } of probes) {
      const sequence = rows[row]?.sequences[0];
      if (sequence === undefined) throw wrong(folder, `the child scored row ${row}, which is not there`);
      const scored = await learner.logProbabilities(
        {
          tokens: Int32Array.from(sequence.tokens),
          offsets: Int32Array.of(0, sequence.tokens.length),
          labelled: Uint8Array.from(sequence.labels),
        },
        { keep: false },
      );
      const sum = scored.reduce((total, value) => total + value, 0);
      if (scored.length !== tokens || !(Math.abs(sum - logProbability) <= allowed * tokens)) {
        throw wrong(
          folder,
          `row ${rows[row]?.id}: the saved weights score ${sum.toFixed(4)} over ${scored.length} tokens, the trained ones ${logProbability.toFixed(4)} over ${tokens}`,
        );
      }
    }
  } finally {
    await learner.close();
  }
}

/** Prepares the folder that the child writes to. */
export async function emptyPartial(output: string): Promise<string> {
  const partial = `${output}.partial`;
  await rm(partial, { recursive: true, force: true });
  await mkdir(partial, { recursive: true });
  return partial;
}

/** The run record of a job, without its figures. */
export function recordOf(
  job: TrainJob,
  trl: TrlJob,
  version: string,
): Omit<TrainingRecord, 'steps' | 'trainedTokens' | 'metrics'> {
  const { model } = job;
  const messages = (['system', 'user', 'assistant', 'user'] as const).map((role) => ({
    role,
    content: `${role} says`,
  }));
  return {
    version: 1,
    trainer: `trl-${trl.method}@${version}`,
    parent: model?.digest ?? 'none',
    recipeDigest: digestOf({ recipe: trl.recipe, parameters: job.parameters, replayPerStep: 0 }),
    dataDigest: digestOf({ data: job.data, replay: [] }),
    templateDigest: digestOf(
      [true, false].map((addGenerationPrompt) => model?.render(messages, { addGenerationPrompt }) ?? null),
    ),
    seed: job.seed,
    tuning: { ...trl.recipe.tuning },
    compute: trl.recipe.compute,
  };
}

/** Counts of the base's weights. @throws CUPEL_TRL_CANNOT where it is no Hugging Face folder */
export async function parametersOf(
  base: string,
): Promise<{ readonly all: number; readonly adapted: (rank: number, targets: readonly string[]) => number }> {
  const hasConfig = await readFile(join(base, 'config.json')).then(
    () => true,
    () => false,
  );
  if (!hasConfig) {
    throw trlErrors.CUPEL_TRL_CANNOT({ message: 'the base is no Hugging Face folder with config.json', where: base });
  }
  const tensors = await openTensors(base);
  try {
    const shapes = [...tensors.entries.values()];
    const count = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);
    return {
      all: shapes.reduce((sum, { shape }) => sum + count(shape), 0),
      adapted: (rank, targets) =>
        shapes
          .filter(({ name }) => targets.includes(/([^.]+)\.weight$/.exec(name)?.[1] ?? ''))
          .reduce((sum, { shape }) => sum + rank * ((shape[0] ?? 0) + (shape[1] ?? 0)), 0),
    };
  } finally {
    await tensors.close();
  }
}

function wrong(folder: string, message: string): Error {
  return trlErrors.CUPEL_TRL_RESULT({ message, where: folder });
}
