import type { ExportedTraining } from '../../src/contracts/index.ts';
import { defineTrainingExporter } from '../../src/kit/index.ts';
import { exportErrors } from '../lib/exports/errors.ts';
import { jsonl, plain, rowsOf } from '../lib/exports/rows.ts';
import {
  type ExportSettings,
  exportSettings,
  huggingFaceSchedule,
  notice,
  warmupSteps,
} from '../lib/exports/settings.ts';

const readFrom = 'unslothai/unsloth (README, unsloth-cli.py) and TRL 1.16 for the arguments of its trainers';
const program = 'Unsloth';

/** Unsloth has no config file: settings are JSON, and a short script hands them to its API. */
export default defineTrainingExporter({
  summary: 'Unsloth: config.json, train.py and dataset',
  version: '1.0.0',
  readFrom,
  files(training) {
    const settings = exportSettings(training, program, ['sft', 'dpo']);
    const { recipe, refuse, maxTokens } = settings;
    refuse(recipe.order === 'file', 'order', 'rows are shuffled');
    refuse(recipe.compute === 'f32', 'compute', 'it computes in bf16 or f16; set compute: bf16');
    const warmup = warmupSteps(recipe, training.steps);
    const schedule = huggingFaceSchedule(recipe.schedule, warmup > 0);
    const { tuning } = recipe;
    const config = {
      model: {
        model_name: training.base,
        max_seq_length: maxTokens,
        dtype: 'bfloat16',
        load_in_4bit: false,
        full_finetuning: tuning.kind === 'full',
      },
      adapter:
        tuning.kind === 'full'
          ? null
          : {
              r: tuning.rank,
              lora_alpha: tuning.alpha,
              lora_dropout: 0,
              bias: 'none',
              target_modules: tuning.targets ?? projections,
              use_gradient_checkpointing: recipe.recompute ? 'unsloth' : false,
              random_state: training.seed,
            },
      training: {
        output_dir: './output',
        per_device_train_batch_size: recipe.batchSize,
        gradient_accumulation_steps: 1,
        num_train_epochs: recipe.epochs,
        ...(recipe.maxSteps === null ? {} : { max_steps: recipe.maxSteps }),
        learning_rate: recipe.learningRate,
        lr_scheduler_type: schedule.name,
        ...(schedule.arguments === null ? {} : { lr_scheduler_kwargs: schedule.arguments }),
        warmup_steps: warmup,
        weight_decay: recipe.weightDecay,
        adam_beta1: recipe.beta1,
        adam_beta2: recipe.beta2,
        adam_epsilon: recipe.epsilon,
        max_grad_norm: recipe.maxGradNorm,
        optim: 'adamw_torch',
        bf16: true,
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
        max_length: maxTokens,
        ...method(training.method, settings),
      },
      save: tuning.kind !== 'full' && tuning.save === 'adapter' ? 'lora' : 'merged_16bit',
    };
    return [
      { path: 'config.json', text: `${JSON.stringify(config, null, 2)}\n` },
      { path: 'dataset.jsonl', text: jsonl(dataset(training)) },
      {
        path: 'train.py',
        text:
          notice(program, readFrom, training, ['In this folder, on a machine with a GPU: python train.py']) +
          (training.method === 'sft' ? sftScript : dpoScript),
      },
    ];
  },
});

const projections = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];

function method(id: string, { own, refuse }: ExportSettings): Readonly<Record<string, unknown>> {
  if (id === 'sft') {
    refuse(own['loss'] !== 'nll', 'loss', `the loss ${String(own['loss'])} is not handed on`);
    return { packing: false, dataset_kwargs: { skip_prepare_dataset: true }, remove_unused_columns: false };
  }
  refuse(own['loss'] !== 'sigmoid', 'loss', 'its DPO is exported with the loss sigmoid alone');
  refuse(own['nllWeight'] !== 0, 'nllWeight', 'its DPO is exported without a likelihood term; set 0');
  refuse(own['labelSmoothing'] !== 0, 'labelSmoothing', 'TRL, which it runs, ignores it with the loss sigmoid');
  refuse(own['ldAlpha'] != null, 'ldAlpha', 'it is not handed on');
  refuse(own['divergence'] !== 'reverse_kl', 'divergence', 'it is not handed on');
  return { beta: own['beta'] };
}

/** SFT is handed token ids and labels, so that what is learned is what would be learned here. */
function dataset({ method: id, rows, prepared }: ExportedTraining): readonly unknown[] {
  if (id === 'sft') {
    return prepared.map(({ id: row, sequences: [sequence] }) => {
      const { tokens = new Int32Array(), weights = new Float64Array() } = sequence ?? {};
      const odd = weights.find((weight) => weight !== 0 && weight !== 1);
      if (odd !== undefined) throw oddWeight(row, odd);
      return {
        input_ids: [...tokens],
        attention_mask: [...tokens].map(() => 1),
        labels: [...tokens].map((token, index) => (weights[index] === 1 ? token : -100)),
      };
    });
  }
  return rowsOf(rows, 'preference', program).map(({ prompt, chosen, rejected }) => ({
    prompt: plain(prompt),
    chosen: [{ role: 'assistant', content: chosen }],
    rejected: [{ role: 'assistant', content: rejected }],
  }));
}

function oddWeight(row: string, weight: number): Error {
  return exportErrors.CUPEL_EXPORT_ROW({ message: `${program}: a message has weight ${weight}`, where: `row ${row}` });
}

const opening = `import json

from unsloth import FastLanguageModel
`;

const loading = `
config = json.load(open("config.json", encoding="utf-8"))
model, tokenizer = FastLanguageModel.from_pretrained(**config["model"])
if config["adapter"] is not None:
    model = FastLanguageModel.get_peft_model(model, **config["adapter"])
rows = load_dataset("json", data_files="dataset.jsonl", split="train")
`;

const saving = `trainer.train()
if config["model"]["full_finetuning"]:
    model.save_pretrained("model")
    tokenizer.save_pretrained("model")
else:
    model.save_pretrained_merged("model", tokenizer, save_method=config["save"])
`;

const sftScript = `${opening}from datasets import load_dataset
from transformers import DataCollatorForSeq2Seq
from trl import SFTConfig, SFTTrainer
${loading}
trainer = SFTTrainer(
    model=model,
    processing_class=tokenizer,
    train_dataset=rows,
    data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100),
    args=SFTConfig(**config["training"]),
)
${saving}`;

const dpoScript = `${opening}from unsloth import PatchDPOTrainer

PatchDPOTrainer()
from datasets import load_dataset
from trl import DPOConfig, DPOTrainer
${loading}
trainer = DPOTrainer(
    model=model,
    ref_model=None,
    processing_class=tokenizer,
    train_dataset=rows,
    args=DPOConfig(**config["training"]),
)
${saving}`;
