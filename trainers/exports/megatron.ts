import { pythonYaml } from '../lib/exports/yaml.ts';
import type { ExportedTraining } from '../../src/contracts/index.ts';
import { defineTrainingExporter } from '../../src/kit/index.ts';
import { exportErrors } from '../lib/exports/errors.ts';
import { jsonl } from '../lib/exports/rows.ts';
import { type ExportSettings, exportSettings, notice, warmupSteps } from '../lib/exports/settings.ts';

const readFrom =
  'NVIDIA/Megatron-LM, commit 00caa53af (pretrain_gpt.py --sft, training/datasets/sft_dataset.py, sft_tokenizer.py)';
const program = 'Megatron-LM';

/**
 * Megatron-LM: its command-line arguments as YAML, and JSONL conversations. Full supervised fine-tuning alone. With the
 * base's own template it would learn questions too; so rows are templated here, and what is read and what is learned
 * are handed over as turns that its prompt format `identity` joins.
 */
export default defineTrainingExporter({
  summary: 'Megatron-LM: arguments.yaml and dataset',
  version: '1.0.0',
  readFrom,
  files(training) {
    const settings = exportSettings(training, program, ['sft']);
    const { recipe, own, refuse, maxTokens } = settings;
    refuse(recipe.tuning.kind !== 'full', 'tuning', 'adapters are not part of its fine-tuning; set tuning: full');
    refuse(own['loss'] !== 'nll', 'loss', `it has no loss ${String(own['loss'])}`);
    refuse(recipe.order === 'shuffle' && recipe.epochs > 1, 'order', 'it shuffles all epochs at once; set order: file');
    refuse(
      training.prepared.length % recipe.batchSize !== 0,
      'batchSize',
      `it fills the last step of an epoch with rows of the next; ${training.prepared.length} rows are not a multiple of ${recipe.batchSize}`,
    );
    refuse(training.seed === 0, 'seed', 'it wants a seed above 0');
    const schedule = typeof recipe.schedule === 'string' ? recipe.schedule : null;
    refuse(schedule === null, 'schedule', 'constant, linear and cosine are exported');
    const samples = training.steps * recipe.batchSize;
    const longest = training.prepared.reduce(
      (most, { sequences }) => sequences.reduce((longer, { tokens }) => Math.max(longer, tokens.length), most),
      0,
    );
    const values = {
      ...architecture(training, settings),
      // One more for the end of a row; what is longer it cuts.
      '--seq-length': Math.max(maxTokens, longest + 1),
      '--micro-batch-size': 1,
      '--global-batch-size': recipe.batchSize,
      '--train-samples': samples,
      '--lr-decay-samples': samples,
      '--lr-warmup-samples': warmupSteps(recipe, training.steps) * recipe.batchSize,
      '--lr': recipe.learningRate,
      '--min-lr': 0,
      '--lr-decay-style': schedule ?? 'linear',
      '--weight-decay': recipe.weightDecay,
      '--clip-grad': recipe.maxGradNorm,
      '--optimizer': 'adam',
      '--adam-beta1': recipe.beta1,
      '--adam-beta2': recipe.beta2,
      '--adam-eps': recipe.epsilon,
      '--attention-dropout': 0,
      '--hidden-dropout': 0,
      ...(recipe.compute === 'bf16' ? { '--bf16': true } : {}),
      ...(recipe.recompute
        ? { '--recompute-granularity': 'full', '--recompute-method': 'uniform', '--recompute-num-layers': 1 }
        : {}),
      '--seed': training.seed,
      '--sft': true,
      '--sft-tokenizer-prompt-format': 'identity',
      '--calculate-per-token-loss': true,
      '--no-create-attention-mask-in-dataloader': true,
      '--dataloader-type': recipe.order === 'file' ? 'single' : 'cyclic',
      '--data-path': './dataset.jsonl',
      '--tokenizer-type': 'SFTTokenizer',
      '--tokenizer-model': training.base,
      '--finetune': true,
      '--load': './base',
      // Else it would go on from random weights.
      '--exit-on-missing-checkpoint': true,
      '--save': './output',
      '--save-interval': recipe.checkpoints?.everySteps ?? training.steps,
      '--split': '100,0,0',
      '--eval-iters': 0,
      '--log-interval': 1,
    };
    return [
      {
        path: 'arguments.yaml',
        text:
          notice(program, readFrom, training, [
            `First convert ${training.base} into ./base by its tools/checkpoint/convert.py.`,
            'Each entry is an argument of pretrain_gpt.py; true stands for a bare flag.',
            'Padding takes the token "<unk>", which must not be learned; a row that does not end in the end-of-text token gets one.',
            'Parallelism (--tensor-model-parallel-size and its kin) is for the machine to decide.',
          ]) + pythonYaml({ MODEL_ARGS: values }),
      },
      { path: 'dataset.jsonl', text: jsonl(dataset(training)) },
    ];
  },
});

/** What Megatron wants to be told of the network, from config.json. Llama and its like alone. */
function architecture({ config }: ExportedTraining, { refuse }: ExportSettings): Readonly<Record<string, unknown>> {
  const type = config['model_type'];
  refuse(type !== 'llama' && type !== 'qwen2', 'base', `a network of type ${String(type)} is not described here`);
  const heads = config['num_attention_heads'] as number;
  const groups = (config['num_key_value_heads'] as number | undefined) ?? heads;
  const rope = config['rope_parameters'] as { rope_theta?: number; rope_type?: string } | undefined;
  const scaling = config['rope_scaling'] ?? (rope?.rope_type === 'default' ? null : rope?.rope_type) ?? null;
  refuse(scaling !== null, 'base', 'its rotary positions are scaled, which is not exported');
  return {
    '--use-mcore-models': true,
    '--num-layers': config['num_hidden_layers'],
    '--hidden-size': config['hidden_size'],
    '--ffn-hidden-size': config['intermediate_size'],
    '--num-attention-heads': heads,
    ...(groups === heads ? {} : { '--group-query-attention': true, '--num-query-groups': groups }),
    ...(config['head_dim'] === undefined ? {} : { '--kv-channels': config['head_dim'] }),
    '--max-position-embeddings': config['max_position_embeddings'],
    '--position-embedding-type': 'rope',
    '--rotary-percent': 1,
    '--rotary-base': rope?.rope_theta ?? config['rope_theta'] ?? 10000,
    '--normalization': 'RMSNorm',
    '--norm-epsilon': config['rms_norm_eps'],
    '--swiglu': true,
    '--disable-bias-linear': true,
    ...(type === 'qwen2' ? { '--add-qkv-bias': true } : {}),
    ...(config['tie_word_embeddings'] === true ? {} : { '--untie-embeddings-and-output-weights': true }),
    '--make-vocab-size-divisible-by': 1,
    '--vocab-size': config['vocab_size'],
  };
}

function dataset({ prepared, runs, tokenize }: ExportedTraining): readonly unknown[] {
  return prepared.map(({ id, sequences: [sequence] }) => {
    const refuse = (message: string): Error =>
      exportErrors.CUPEL_EXPORT_ROW({ message: `${program}: ${message}`, where: `row ${id}` });
    if (sequence === undefined) throw refuse('it has no tokens');
    const odd = sequence.weights.find((weight) => weight !== 0 && weight !== 1);
    if (odd !== undefined) throw refuse(`a message has weight ${odd}`);
    const parts = runs(sequence);
    const tokens = tokenize(parts.map(({ text }) => text).join(''));
    if (tokens.length !== sequence.tokens.length || tokens.some((token, index) => token !== sequence.tokens[index])) {
      throw refuse('its text does not give its tokens again');
    }
    if (parts[0]?.trained !== false) throw refuse('it starts with what is learned');
    // What stands behind the last answer is neither read nor learned.
    const last = parts.findLastIndex(({ trained }) => trained);
    return {
      messages: parts.slice(0, last + 1).map(({ text, trained }) => ({
        role: trained ? 'assistant' : 'user',
        content: text,
      })),
    };
  });
}
