import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import type { ExportedTraining, PreparedRow, TrainingExporter, TrainingRow } from '../../../src/contracts/index.ts';
import { openRegistry } from '../../../src/plugins/registry.ts';
import { pythonYaml } from '../../../trainers/lib/exports/yaml.ts';

const registry = await openRegistry();
const exporters = await Promise.all(
  (await registry.ids('exporter')).map(async (id) => [id, await registry.load('exporter', id)] as const),
);
const exporterOf = (id: string): TrainingExporter => exporters.find(([name]) => name === id)?.[1] as TrainingExporter;

const messages: TrainingRow = {
  id: 'm1',
  kind: 'messages',
  messages: [
    { role: 'system', content: 'Answer.' },
    { role: 'user', content: 'How?' },
    { role: 'assistant', content: 'So.' },
  ],
};
const pair: TrainingRow = {
  id: 'p1',
  kind: 'preference',
  prompt: [{ role: 'user', content: 'How?' }],
  chosen: 'So.',
  rejected: 'No.',
};
const labelled: TrainingRow = {
  id: 'l1',
  kind: 'labelled',
  prompt: [{ role: 'user', content: 'How?' }],
  answer: 'So.',
  desirable: false,
};
const prepared: PreparedRow = {
  id: 'm1',
  sequences: [{ tokens: Int32Array.of(1, 7, 8, 2), weights: Float64Array.of(0, 0, 1, 1), promptLength: 2 }],
};
const byMethod: Readonly<Record<string, TrainingRow>> = { sft: messages, dpo: pair, simpo: pair, kto: labelled };

async function trainingOf(
  method: string,
  parameters: Readonly<Record<string, unknown>> = {},
  change: Partial<ExportedTraining> = {},
): Promise<ExportedTraining> {
  const row = byMethod[method] ?? pair;
  return {
    id: 'desk',
    method,
    options: (await registry.load('trainer', method)).options,
    parameters: { compute: 'bf16', ...(method === 'dpo' ? { nllWeight: 0 } : {}), ...parameters },
    base: '/models/base',
    config: {
      model_type: 'llama',
      num_hidden_layers: 2,
      hidden_size: 64,
      intermediate_size: 128,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      max_position_embeddings: 512,
      rms_norm_eps: 1e-5,
      rope_theta: 1e4,
      vocab_size: 300,
      tie_word_embeddings: true,
    },
    rows: [row],
    prepared: [{ ...prepared, id: row.id }],
    runs: () => [
      { text: '<user>How?', trained: false },
      { text: 'So.</s>', trained: true },
    ],
    tokenize: () => [1, 7, 8, 2],
    hasReplay: false,
    hasValidation: false,
    steps: 40,
    contextLength: 512,
    seed: 3,
    ...change,
  };
}

const refusal = (id: string, training: ExportedTraining): unknown => {
  try {
    exporterOf(id).files(training);
  } catch (error) {
    return error;
  }
  return null;
};
const config = (id: string, training: ExportedTraining, path: string): Record<string, unknown> => {
  const text = exporterOf(id)
    .files(training)
    .find((file) => file.path === path)?.text;
  return parse(text ?? '', { version: '1.1' }) as Record<string, unknown>;
};

it('there are the four exporters', () => {
  expect(exporters.map(([id]) => id)).toEqual(['axolotl', 'llama-factory', 'megatron', 'unsloth']);
});

describe.each(exporters)('exporter %s', (id, exporter) => {
  const written = async () => exporter.files(await trainingOf('sft', { tuning: 'full', batchSize: 1, epochs: 1 }));

  it('says on top of its files that nobody ran them, and whose documentation they follow', async () => {
    const commented = (await written()).filter(({ path }) => /\.(yaml|py)$/.test(path));
    expect(commented.length).toBeGreaterThan(0);
    for (const { text } of commented) {
      expect(text).toMatch(/^# Training "desk" \(sft\) for/);
      expect(text).toContain('Written, not run');
      expect(text).toContain(exporter.readFrom);
    }
  });

  it('writes a dataset beside it, a line of JSON each, and no file outside its folder', async () => {
    const files = await written();
    const dataset = files.find(({ path }) => path === 'dataset.jsonl')?.text ?? '';
    for (const line of dataset.trim().split('\n')) expect(JSON.parse(line)).toBeTypeOf('object');
    for (const { path } of files) expect(path).toMatch(/^[a-z_]+\.[a-z]+$/);
  });

  it.each([
    ['replay', {}, { hasReplay: true }],
    ['validation', {}, { hasValidation: true }],
    ['tuning', { tuning: 'qlora' }, {}],
    ['overlong', { overlong: 'left' }, {}],
    ['checkpoints.everyTokens', { checkpoints: { everyTokens: 100 } }, {}],
  ])('refuses %s by name', async (where, parameters, change) => {
    expect(refusal(id, await trainingOf('sft', parameters, change))).toMatchObject({
      code: 'CUPEL_EXPORT_CANNOT',
      where,
    });
  });

  it('refuses a method that it has no counterpart of', async () => {
    expect(refusal(id, await trainingOf('orpo'))).toMatchObject({ code: 'CUPEL_EXPORT_CANNOT', where: 'method' });
  });

  it('refuses a row with a weight that is no mask', async () => {
    const weighted: TrainingRow = {
      ...messages,
      messages: messages.messages.map((message) =>
        message.role === 'assistant' ? { ...message, weight: 0.5 } : message,
      ),
    };
    const tokens = {
      ...prepared,
      sequences: prepared.sequences.map((one) => ({ ...one, weights: Float64Array.of(0, 0, 0.5, 0.5) })),
    };
    const training = await trainingOf(
      'sft',
      { tuning: 'full', batchSize: 1, epochs: 1 },
      { rows: [weighted], prepared: [tokens] },
    );
    expect(refusal(id, training)).toMatchObject({ code: 'CUPEL_EXPORT_ROW', where: 'row m1' });
  });
});

describe('axolotl', () => {
  it('marks each message that is learned, so that its own rules for roles decide nothing', async () => {
    const training = await trainingOf('sft', { tuning: { kind: 'lora', rank: 8 }, schedule: 'linear', warmupSteps: 5 });
    expect(config('axolotl', training, 'config.yaml')).toMatchObject({
      datasets: [{ type: 'chat_template', message_field_training: 'train', roles_to_train: [] }],
      adapter: 'lora',
      lora_r: 8,
      lora_alpha: 16,
      lr_scheduler: 'linear',
      warmup_steps: 5,
      save_strategy: 'no',
      adam_epsilon: 1e-8,
      sequence_len: 512,
    });
    const dataset = exporterOf('axolotl').files(training)[1]?.text ?? '';
    expect((JSON.parse(dataset) as { messages: { train: boolean }[] }).messages.map(({ train }) => train)).toEqual([
      false,
      false,
      true,
    ]);
  });

  it('hands the likelihood term of dpo over as the loss sft', async () => {
    expect(config('axolotl', await trainingOf('dpo', { nllWeight: 0.5 }), 'config.yaml')).toMatchObject({
      rl: 'dpo',
      rl_beta: 0.1,
      dpo_loss_type: ['sigmoid', 'sft'],
      dpo_loss_weights: [1, 0.5],
    });
  });

  it('refuses a loss of sft, and an order of preferences, that it is not told', async () => {
    expect(refusal('axolotl', await trainingOf('sft', { loss: 'dft' }))).toMatchObject({ where: 'loss' });
    expect(refusal('axolotl', await trainingOf('dpo', { order: 'file' }))).toMatchObject({ where: 'order' });
    expect(refusal('axolotl', await trainingOf('sft', { order: 'file' }))).toBeNull();
  });

  it('refuses a warmup of one step, which it makes two, and smoothing that is ignored', async () => {
    expect(refusal('axolotl', await trainingOf('sft', { warmupSteps: 1 }))).toMatchObject({ where: 'warmupSteps' });
    expect(refusal('axolotl', await trainingOf('dpo', { labelSmoothing: 0.1 }))).toMatchObject({
      where: 'labelSmoothing',
    });
  });
});

describe('llama-factory', () => {
  it('describes its dataset, and honours label smoothing of the loss sigmoid', async () => {
    const training = await trainingOf('dpo', { labelSmoothing: 0.1 });
    expect(config('llama-factory', training, 'train.yaml')).toMatchObject({
      stage: 'dpo',
      pref_loss: 'sigmoid',
      dpo_label_smoothing: 0.1,
      dataset: 'cupel',
      finetuning_type: 'full',
    });
    expect(config('llama-factory', training, 'dataset_info.json')).toMatchObject({
      cupel: { formatting: 'sharegpt', ranking: true, columns: { chosen: 'chosen', rejected: 'rejected' } },
    });
  });

  it('masks earlier answers where all rows learn the last one, and refuses a mixture', async () => {
    const turns = (first: number): TrainingRow => ({
      id: `w${first}`,
      kind: 'messages',
      messages: [
        { role: 'user', content: 'a' },
        { role: 'assistant', content: 'b', weight: first },
        { role: 'user', content: 'c' },
        { role: 'assistant', content: 'd' },
      ],
    });
    expect(config('llama-factory', await trainingOf('sft', {}, { rows: [turns(0)] }), 'train.yaml')).toMatchObject({
      mask_history: true,
    });
    expect(refusal('llama-factory', await trainingOf('sft', {}, { rows: [turns(0), turns(1)] }))).toMatchObject({
      code: 'CUPEL_EXPORT_ROW',
      where: 'row w1',
    });
  });

  it('writes the label of kto, and how adapters are merged', async () => {
    const files = exporterOf('llama-factory').files(await trainingOf('kto', { tuning: 'lora' }));
    expect(files.map(({ path }) => path)).toEqual(['train.yaml', 'merge.yaml', 'dataset_info.json', 'dataset.jsonl']);
    expect(JSON.parse(files[3]?.text ?? '')).toMatchObject({ label: false });
  });

  it('refuses f32, in place of which it chooses bf16 or f16', async () => {
    expect(refusal('llama-factory', await trainingOf('sft', { compute: 'f32' }))).toMatchObject({ where: 'compute' });
  });

  it('refuses a likelihood term that it takes another mean of', async () => {
    expect(refusal('llama-factory', await trainingOf('dpo', { nllWeight: 1 }))).toMatchObject({ where: 'nllWeight' });
  });
});

describe('unsloth', () => {
  it('hands over tokens and labels, so that no marker decides what is learned', async () => {
    const files = exporterOf('unsloth').files(await trainingOf('sft', { tuning: 'lora' }));
    expect(JSON.parse(files.find(({ path }) => path === 'dataset.jsonl')?.text ?? '')).toEqual({
      input_ids: [1, 7, 8, 2],
      attention_mask: [1, 1, 1, 1],
      labels: [-100, -100, 8, 2],
    });
  });

  it('refuses f32, which it does not compute in', async () => {
    expect(refusal('unsloth', await trainingOf('sft', { compute: 'f32' }))).toMatchObject({ where: 'compute' });
  });
});

describe('megatron', () => {
  const file = { tuning: 'full', order: 'file', batchSize: 1 };

  it('hands over what is read and what is learned as turns, which its format identity joins', async () => {
    const training = await trainingOf('sft', file);
    const dataset = exporterOf('megatron').files(training)[1]?.text ?? '';
    expect(JSON.parse(dataset)).toEqual({
      messages: [
        { role: 'user', content: '<user>How?' },
        { role: 'assistant', content: 'So.</s>' },
      ],
    });
  });

  it('refuses a row whose text gives other tokens, steps that it would fill up, and its order of several epochs', async () => {
    const other = await trainingOf('sft', file, { tokenize: () => [1, 7, 9, 2] });
    expect(refusal('megatron', other)).toMatchObject({ code: 'CUPEL_EXPORT_ROW', where: 'row m1' });
    expect(refusal('megatron', await trainingOf('sft', { ...file, batchSize: 2 }))).toMatchObject({
      where: 'batchSize',
    });
    expect(refusal('megatron', await trainingOf('sft', { ...file, order: 'shuffle' }))).toMatchObject({
      where: 'order',
    });
  });

  it('describes the network by its config.json', async () => {
    expect(config('megatron', await trainingOf('sft', file), 'arguments.yaml')).toMatchObject({
      MODEL_ARGS: {
        '--num-layers': 2,
        '--num-query-groups': 2,
        '--rotary-base': 10000,
        '--train-samples': 40,
        '--global-batch-size': 1,
        '--dataloader-type': 'single',
        '--exit-on-missing-checkpoint': true,
      },
    });
  });

  it('refuses adapters, other networks and scaled positions', async () => {
    expect(refusal('megatron', await trainingOf('sft', { tuning: 'lora' }))).toMatchObject({ where: 'tuning' });
    const { config: llama } = await trainingOf('sft');
    for (const change of [{ model_type: 'gemma3' }, { rope_scaling: { factor: 8 } }]) {
      const training = await trainingOf('sft', file, { config: { ...llama, ...change } });
      expect(refusal('megatron', training)).toMatchObject({ where: 'base' });
    }
  });
});

describe('YAML for Python', () => {
  it('quotes what YAML 1.1 takes for a truth value, and writes powers of ten as numbers', () => {
    expect(pythonYaml({ a: 'no', b: 1e-8, c: [2.5e-7, 1e21], d: 'on', e: true })).toBe(
      'a: "no"\nb: 1.0e-8\nc:\n  - 2.5e-7\n  - 1.0e+21\nd: "on"\ne: true\n',
    );
  });
});
