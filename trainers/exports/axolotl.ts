import { pythonYaml } from '../lib/exports/yaml.ts';
import type { ExportedTraining } from '../../src/contracts/index.ts';
import { defineTrainingExporter } from '../../src/kit/index.ts';
import { jsonl, plain, rowsOf, trained } from '../lib/exports/rows.ts';
import {
  type ExportSettings,
  exportSettings,
  huggingFaceSchedule,
  notice,
  warmupSteps,
} from '../lib/exports/settings.ts';

const readFrom = 'axolotl-ai-cloud/axolotl, commit 067b021c8 of 2026-07-24 (utils/schemas, docs/rlhf)';
const program = 'Axolotl';

/** Axolotl: one YAML file and a JSONL dataset, templated by the base's own chat template. */
export default defineTrainingExporter({
  summary: 'Axolotl: config.yaml and dataset',
  version: '1.0.0',
  readFrom,
  files(training) {
    const settings = exportSettings(training, program, ['sft', 'dpo', 'simpo']);
    const { recipe, refuse } = settings;
    if (training.method === 'sft') {
      refuse(settings.own['loss'] !== 'nll', 'loss', `the loss ${String(settings.own['loss'])} is not handed on`);
    } else refuse(recipe.order === 'file', 'order', 'rows of preferences are shuffled');
    const warmup = warmupSteps(recipe, training.steps);
    refuse(warmup === 1, 'warmupSteps', 'a warmup of one step is made two');
    const schedule = huggingFaceSchedule(recipe.schedule, warmup > 0);
    const config = {
      base_model: training.base,
      trust_remote_code: false,
      chat_template: 'tokenizer_default',
      ...(training.method === 'sft' ? sft() : preference(training.method, settings)),
      dataset_prepared_path: './prepared',
      shuffle_merged_datasets: recipe.order === 'shuffle',
      ...(recipe.order === 'file' ? { curriculum_sampling: true } : {}),
      sequence_len: settings.maxTokens,
      excess_length_strategy: recipe.overlong === 'drop' ? 'drop' : 'raise',
      sample_packing: false,
      val_set_size: 0,
      output_dir: './output',
      ...adapter(settings),
      micro_batch_size: recipe.batchSize,
      gradient_accumulation_steps: 1,
      num_epochs: recipe.epochs,
      ...(recipe.maxSteps === null ? {} : { max_steps: recipe.maxSteps }),
      optimizer: 'adamw_torch',
      learning_rate: recipe.learningRate,
      lr_scheduler: schedule.name,
      ...(schedule.arguments === null ? {} : { lr_scheduler_kwargs: schedule.arguments }),
      warmup_steps: warmup,
      weight_decay: recipe.weightDecay,
      adam_beta1: recipe.beta1,
      adam_beta2: recipe.beta2,
      adam_epsilon: recipe.epsilon,
      max_grad_norm: recipe.maxGradNorm,
      bf16: recipe.compute === 'bf16',
      fp16: false,
      tf32: false,
      ...(recipe.compute === 'f32' ? { float32: true } : {}),
      gradient_checkpointing: recipe.recompute,
      logging_steps: 1,
      ...(recipe.checkpoints?.everySteps === undefined
        ? { save_strategy: 'no' }
        : { save_steps: recipe.checkpoints.everySteps, save_total_limit: recipe.checkpoints.keep }),
      seed: training.seed,
    };
    const merge =
      recipe.tuning.kind !== 'full' && recipe.tuning.save !== 'adapter'
        ? ['Then merge: axolotl merge-lora config.yaml']
        : [];
    return [
      {
        path: 'config.yaml',
        text:
          notice(program, readFrom, training, [
            'On one GPU: axolotl train config.yaml (divide micro_batch_size by the number of GPUs).',
            ...merge,
          ]) + pythonYaml(config),
      },
      { path: 'dataset.jsonl', text: jsonl(dataset(training)) },
    ];
  },
});

const file = { path: './dataset.jsonl', ds_type: 'json', split: 'train' };
const roles = { user: ['user'], assistant: ['assistant'], system: ['system'], tool: ['tool'] };
const properties = { role: 'role', content: 'content' };

function sft(): Readonly<Record<string, unknown>> {
  return {
    datasets: [
      {
        ...file,
        type: 'chat_template',
        field_messages: 'messages',
        message_property_mappings: properties,
        message_field_training: 'train',
        roles,
        roles_to_train: [],
        train_on_eos: 'turn',
      },
    ],
  };
}

function preference(method: string, { own, refuse }: ExportSettings): Readonly<Record<string, unknown>> {
  const datasets = [
    {
      path: './dataset.jsonl',
      split: 'train',
      type: 'chat_template.default',
      field_messages: 'messages',
      field_chosen: 'chosen',
      field_rejected: 'rejected',
      message_property_mappings: properties,
      roles,
    },
  ];
  if (method === 'simpo') {
    refuse(own['labelSmoothing'] !== 0, 'labelSmoothing', 'it is not handed on to SimPO');
    return { rl: 'simpo', rl_beta: own['beta'], simpo_gamma: own['gamma'], cpo_alpha: 0, datasets };
  }
  refuse(own['ldAlpha'] != null, 'ldAlpha', 'LD-DPO is not handed on');
  refuse(own['divergence'] !== 'reverse_kl', 'divergence', 'the divergence of DPO is not handed on');
  refuse(own['discopopTau'] != null, 'discopopTau', 'it is not handed on');
  const losses = [own['loss']].flat() as string[];
  const smoothing = own['labelSmoothing'] as number;
  refuse(
    smoothing > 0 && losses.some((loss) => !['robust', 'exo_pair', 'aot', 'aot_unpaired'].includes(loss)),
    'labelSmoothing',
    `TRL, which it runs, ignores it with the loss ${losses.join(' + ')}`,
  );
  const weights = (own['lossWeights'] as readonly number[] | null) ?? losses.map(() => 1);
  const likelihood = own['nllWeight'] as number;
  return {
    rl: 'dpo',
    rl_beta: own['beta'],
    dpo_loss_type: likelihood > 0 ? [...losses, 'sft'] : losses,
    dpo_loss_weights: likelihood > 0 ? [...weights, likelihood] : weights,
    ...(smoothing > 0 ? { dpo_label_smoothing: smoothing } : {}),
    datasets,
  };
}

function adapter({ recipe }: ExportSettings): Readonly<Record<string, unknown>> {
  const { tuning } = recipe;
  if (tuning.kind === 'full') return {};
  return {
    adapter: 'lora',
    lora_r: tuning.rank,
    lora_alpha: tuning.alpha,
    lora_dropout: 0,
    ...(tuning.targets === undefined ? { lora_target_linear: true } : { lora_target_modules: tuning.targets }),
  };
}

function dataset({ method, rows }: ExportedTraining): readonly unknown[] {
  if (method === 'sft' && rows[0]?.kind === 'messages') {
    return rowsOf(rows, 'messages', program).map((row) => {
      const marks = trained(row, program);
      return { messages: plain(row.messages).map((message, index) => ({ ...message, train: marks[index] })) };
    });
  }
  const pairs = rowsOf(rows, 'preference', program);
  const says = (content: string) => ({ role: 'assistant', content });
  return method === 'sft'
    ? pairs.map(({ prompt, chosen }) => ({
        messages: [...plain(prompt).map((message) => ({ ...message, train: false })), { ...says(chosen), train: true }],
      }))
    : pairs.map(({ prompt, chosen, rejected }) => ({
        messages: plain(prompt),
        chosen: says(chosen),
        rejected: says(rejected),
      }));
}
