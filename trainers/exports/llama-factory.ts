import { pythonYaml } from '../lib/exports/yaml.ts';
import type { ExportedTraining } from '../../src/contracts/index.ts';
import { defineTrainingExporter } from '../../src/kit/index.ts';
import { checkTurns, jsonl, plain, refuseRow, rowsOf, trained } from '../lib/exports/rows.ts';
import {
  type ExportSettings,
  exportSettings,
  huggingFaceSchedule,
  notice,
  warmupSteps,
} from '../lib/exports/settings.ts';

const readFrom = 'hiyouga/LLaMA-Factory, commit ff6d4d12e of 2026-08-18 (hparams, data/README, examples)';
const program = 'LLaMA-Factory';
const name = 'cupel';

/** LLaMA-Factory: YAML arguments, dataset_info.json and a dataset in its sharegpt form; the base's own chat template. */
export default defineTrainingExporter({
  summary: 'LLaMA-Factory: train.yaml, dataset_info.json and dataset',
  version: '1.0.0',
  readFrom,
  files(training) {
    const settings = exportSettings(training, program, ['sft', 'dpo', 'simpo', 'kto']);
    const { recipe, maxTokens, refuse } = settings;
    refuse(recipe.compute === 'f32', 'compute', 'where neither bf16 nor fp16 is set it chooses one; set compute: bf16');
    const warmup = warmupSteps(recipe, training.steps);
    const schedule = huggingFaceSchedule(recipe.schedule, warmup > 0);
    const { rows, maskHistory } = dataset(training);
    const longest = training.prepared.reduce(
      (most, { sequences }) => sequences.reduce((longer, { tokens }) => Math.max(longer, tokens.length), most),
      0,
    );
    const config = {
      model_name_or_path: training.base,
      trust_remote_code: false,
      do_train: true,
      ...method(training.method, settings),
      ...tuning(settings),
      dataset: name,
      dataset_dir: '.',
      // It cuts what is longer without a word; no row is, also with the end-of-text token that it may add.
      cutoff_len: Math.max(maxTokens, longest + 1),
      mask_history: maskHistory,
      packing: false,
      disable_shuffling: recipe.order === 'file',
      output_dir: './output',
      overwrite_cache: true,
      per_device_train_batch_size: recipe.batchSize,
      gradient_accumulation_steps: 1,
      num_train_epochs: recipe.epochs,
      ...(recipe.maxSteps === null ? {} : { max_steps: recipe.maxSteps }),
      optim: 'adamw_torch',
      learning_rate: recipe.learningRate,
      lr_scheduler_type: schedule.name,
      ...(schedule.arguments === null ? {} : { lr_scheduler_kwargs: schedule.arguments }),
      warmup_steps: warmup,
      weight_decay: recipe.weightDecay,
      adam_beta1: recipe.beta1,
      adam_beta2: recipe.beta2,
      adam_epsilon: recipe.epsilon,
      max_grad_norm: recipe.maxGradNorm,
      bf16: recipe.compute === 'bf16',
      disable_gradient_checkpointing: !recipe.recompute,
      logging_steps: 1,
      ...(recipe.checkpoints?.everySteps === undefined
        ? { save_strategy: 'no' }
        : {
            save_strategy: 'steps',
            save_steps: recipe.checkpoints.everySteps,
            save_total_limit: recipe.checkpoints.keep,
          }),
      report_to: 'none',
      seed: training.seed,
    };
    const merges = recipe.tuning.kind !== 'full' && recipe.tuning.save !== 'adapter';
    return [
      {
        path: 'train.yaml',
        text:
          notice(program, readFrom, training, [
            'In this folder: llamafactory-cli train train.yaml',
            ...(merges ? ['Then: llamafactory-cli export merge.yaml'] : []),
          ]) + pythonYaml(config),
      },
      ...(merges
        ? [
            {
              path: 'merge.yaml',
              text:
                notice(program, readFrom, training, []) +
                pythonYaml({
                  model_name_or_path: training.base,
                  adapter_name_or_path: './output',
                  trust_remote_code: false,
                  export_dir: './merged',
                }),
            },
          ]
        : []),
      { path: 'dataset_info.json', text: `${JSON.stringify({ [name]: description(training.method) }, null, 2)}\n` },
      { path: 'dataset.jsonl', text: jsonl(rows) },
    ];
  },
});

function method(id: string, { own, refuse }: ExportSettings): Readonly<Record<string, unknown>> {
  if (id === 'sft') return { stage: 'sft', ...(own['loss'] === 'dft' ? { use_dft_loss: true } : {}) };
  if (id === 'kto') {
    refuse(own['loss'] !== 'kto', 'loss', `its KTO has no loss "${String(own['loss'])}"`);
    return {
      stage: 'kto',
      pref_beta: own['beta'],
      kto_chosen_weight: own['desirableWeight'],
      kto_rejected_weight: own['undesirableWeight'],
    };
  }
  if (id === 'simpo') {
    refuse(own['labelSmoothing'] !== 0, 'labelSmoothing', 'its SimPO does not read it');
    return { stage: 'dpo', pref_loss: 'simpo', pref_beta: own['beta'], simpo_gamma: own['gamma'], pref_ftx: 0 };
  }
  const loss = own['loss'];
  refuse(
    typeof loss !== 'string' || !['sigmoid', 'hinge', 'ipo'].includes(loss),
    'loss',
    `its DPO has sigmoid, hinge and ipo, not ${JSON.stringify(loss)}`,
  );
  refuse(own['nllWeight'] !== 0, 'nllWeight', 'its pref_ftx is a mean over answers, not over tokens; set 0');
  refuse(own['divergence'] !== 'reverse_kl', 'divergence', 'the divergence of DPO can not be chosen');
  refuse(own['labelSmoothing'] !== 0 && loss !== 'sigmoid', 'labelSmoothing', `it is not read with ${String(loss)}`);
  return {
    stage: 'dpo',
    pref_loss: loss,
    pref_beta: own['beta'],
    pref_ftx: 0,
    dpo_label_smoothing: own['labelSmoothing'],
    ...(own['ldAlpha'] == null ? {} : { ld_alpha: own['ldAlpha'] }),
  };
}

function tuning({ recipe }: ExportSettings): Readonly<Record<string, unknown>> {
  if (recipe.tuning.kind === 'full') return { finetuning_type: 'full' };
  const { rank, alpha, targets } = recipe.tuning;
  return {
    finetuning_type: 'lora',
    lora_rank: rank,
    lora_alpha: alpha,
    lora_dropout: 0,
    lora_target: targets === undefined ? 'all' : targets.join(','),
  };
}

function description(id: string): unknown {
  const columns =
    id === 'sft'
      ? { messages: 'messages' }
      : id === 'kto'
        ? { messages: 'messages', kto_tag: 'label' }
        : { messages: 'messages', chosen: 'chosen', rejected: 'rejected' };
  return {
    file_name: 'dataset.jsonl',
    formatting: 'sharegpt',
    ...(id === 'sft' || id === 'kto' ? {} : { ranking: true }),
    columns,
    tags: {
      role_tag: 'role',
      content_tag: 'content',
      user_tag: 'user',
      assistant_tag: 'assistant',
      system_tag: 'system',
    },
  };
}

function dataset({ method: id, rows }: ExportedTraining): { rows: readonly unknown[]; maskHistory: boolean } {
  const says = (content: string) => ({ role: 'assistant', content });
  if (id === 'kto') {
    return {
      maskHistory: false,
      rows: rowsOf(rows, 'labelled', program).map((row) => {
        const messages = [...plain(row.prompt), says(row.answer)];
        checkTurns(row, messages, program);
        return { messages, label: row.desirable };
      }),
    };
  }
  if (id === 'sft' && rows[0]?.kind === 'messages') return conversations(rows);
  return {
    maskHistory: id === 'sft',
    rows: rowsOf(rows, 'preference', program).map((row) => {
      const { prompt, chosen, rejected } = row;
      checkTurns(row, [...plain(prompt), says(chosen)], program);
      return id === 'sft'
        ? { messages: [...plain(prompt), says(chosen)] }
        : { messages: plain(prompt), chosen: says(chosen), rejected: says(rejected) };
    }),
  };
}

/** All answers are learned, or with `mask_history` the last one of every row. */
function conversations(rows: ExportedTraining['rows']): { rows: readonly unknown[]; maskHistory: boolean } {
  const given = rowsOf(rows, 'messages', program).map((row) => {
    checkTurns(row, row.messages, program);
    const answers = trained(row, program).filter((_, index) => row.messages[index]?.role === 'assistant');
    const all = answers.every(Boolean);
    const last = answers.every((is, index) => is === (index === answers.length - 1));
    if (!all && !last) refuseRow(row, `${program}: all answers are learned, or the last one`);
    return { row, all, last };
  });
  const maskHistory = given.some(({ all }) => !all);
  const other = given.find(({ last }) => maskHistory && !last);
  if (other !== undefined) refuseRow(other.row, `${program}: some rows learn every answer, others the last one`);
  return { maskHistory, rows: given.map(({ row }) => ({ messages: plain(row.messages) })) };
}
