import type { CacheType, WeightType } from '../contracts/index.ts';
import { readText } from '../kit/index.ts';
import type { CheckedModel, QuantizeResult } from '../jobs/quantize.ts';
import type { Command, CommandContext } from './command.ts';
import { cliErrors } from './errors.ts';
import { checkThreads } from './flags.ts';
import { table } from './table.ts';

const types = 'q8_0 q4_0 q4_1 q5_0 q5_1 q4_k q5_k q6_k f16 bf16 f32 w8a8'.split(' ');

/** @param locate path of a checkpoint that is named by an id of the config */
export function quantizeCommand(
  locate: (context: CommandContext, name: string) => Promise<string>,
  projectFlags: Command['flags'],
): Command {
  return {
    name: 'quantize',
    summary: 'write a checkpoint in another type, and measure what that loses',
    usage: '<checkpoint> -o <target> --type <type> | --check <reference> [candidate...] --text <file>',
    examples: [
      'cupel quantize ./my-model -o my-model-q8_0.gguf --type q8_0',
      'cupel quantize ./my-model -o my-model-w8a8 --type w8a8 --check --text sample.txt',
      'cupel quantize --check ./my-model my-model-q4_k.gguf --text sample.txt --kv f16,q8_0',
    ],
    flags: {
      ...Object.fromEntries(Object.entries(projectFlags).filter(([name]) => ['config', 'threads'].includes(name))),
      out: { short: 'o', value: 'path', help: 'GGUF file to write; a folder for w8a8' },
      type: { value: 'name', help: types.join(' ') },
      pre: { value: 'name', help: "llama.cpp's name of the pre-tokenizer, where it cannot be told" },
      check: { help: 'measure perplexity, divergence and agreement beside the unquantized model' },
      text: { value: 'file', help: 'text to measure on' },
      weights: { value: 'list', help: 'with --check: types to try at load, of f32,q8_0,w8a8,bf16' },
      kv: { value: 'list', help: 'with --check: types of the KV cache to try, of f32,f16,q8_0' },
      window: { value: 'n', help: 'with --check: tokens read at once (default 512)' },
    },
    run: async (context) => {
      const { arguments: given } = context;
      const [first, ...rest] = given.positionals;
      if (first === undefined) throw cliErrors.CUPEL_CLI_USAGE({ message: 'name a checkpoint' });
      const [target, check] = [given.text('out'), given.has('check')];
      if (target === undefined && !check) {
        throw cliErrors.CUPEL_CLI_USAGE({ message: 'give a target to write with -o, or --check' });
      }
      if (target !== undefined && rest.length > 0) {
        throw cliErrors.CUPEL_CLI_USAGE({ message: `one checkpoint is written at a time, got ${1 + rest.length}` });
      }
      const text = given.text('text');
      if (check && text === undefined) {
        throw cliErrors.CUPEL_CLI_USAGE({
          message: '--check needs a text to measure on',
          remedy: 'Name one with --text: some thousand words of what the model is for.',
        });
      }
      const threads = given.number('threads');
      const options = threads === undefined ? {} : { threads: checkThreads(threads) };
      const weights = listOf<WeightType>(given.text('weights'), 'weights', ['f32', 'q8_0', 'w8a8', 'bf16']);
      const caches = listOf<CacheType>(given.text('kv'), 'kv', ['f32', 'f16', 'q8_0']);
      const window = windowOf(given.number('window') ?? 512);
      const jobs = await import('../jobs/quantize.ts');
      const find = async (name: string): Promise<string> =>
        (await jobs.checkpointPath(name)) ?? (await locate(context, name));
      const source = await find(first);
      // Before anything is written: what the check will need.
      if (text !== undefined) await readText(text);
      let written: QuantizeResult | null = null;
      if (target !== undefined) {
        const pre = given.text('pre');
        written = await jobs.quantizeCheckpoint({
          source,
          target,
          type: typeOf(given.text('type')),
          ...(pre === undefined ? {} : { preTokenizer: pre }),
          ...options,
        });
      }
      let checked: readonly CheckedModel[] | null = null;
      if (check && text !== undefined) {
        checked = await jobs.checkQuantization({
          reference: source,
          candidates: written === null ? await Promise.all(rest.map(find)) : [written.path],
          weights,
          caches,
          text,
          window,
          ...options,
          progress: context.progress,
          signal: context.signal,
        });
      }
      context.print(
        context.json
          ? JSON.stringify({ written, checked })
          : [written === null ? [] : [describe(written)], checked === null ? [] : [compared(checked)]]
              .flat()
              .join('\n\n'),
      );
      return 0;
    },
  };
}

function typeOf(name: string | undefined): string {
  if (name !== undefined && types.includes(name.toLowerCase())) return name.toLowerCase();
  throw cliErrors.CUPEL_CLI_USAGE({
    message: name === undefined ? '--type is missing' : `--type does not know "${name}"`,
    remedy: `Name one of: ${types.join(', ')}.`,
  });
}

function listOf<T extends string>(text: string | undefined, flag: string, known: readonly T[]): readonly T[] {
  const names = text === undefined ? [] : text.split(',').map((name) => name.trim());
  const stranger = names.find((name) => !(known as readonly string[]).includes(name));
  if (stranger !== undefined) {
    throw cliErrors.CUPEL_CLI_USAGE({ message: `--${flag} does not know "${stranger}"; it takes ${known.join(', ')}` });
  }
  return names as T[];
}

function windowOf(value: number): number {
  if (Number.isInteger(value) && value >= 2 && value <= 2 ** 20) return value;
  throw cliErrors.CUPEL_CLI_USAGE({ message: `--window wants a whole number from 2, got ${value}` });
}

function describe({ path, bytes, parameters, types: written }: QuantizeResult): string {
  const rows = written.map(({ type, tensors, relativeError }) => [
    `  ${type}`,
    `${tensors}`,
    relativeError === 0 ? '0' : relativeError.toExponential(1),
  ]);
  return [
    `${path}`,
    `${megabytes(bytes)}, ${((8 * bytes) / Math.max(1, parameters)).toFixed(2)} bits a parameter`,
    table(['  stored as', 'tensors', 'largest relative error'], rows, new Set([1, 2])),
  ].join('\n');
}

function compared(models: readonly CheckedModel[]): string {
  const [reference] = models;
  const rows = models.map((model, index) => [
    model.name,
    model.weights,
    model.kvCache,
    megabytes(model.weightBytes),
    model.perplexity.toFixed(4),
    index === 0 ? '' : signed((100 * model.perplexity) / (reference?.perplexity ?? Number.NaN) - 100),
    ...(index === 0
      ? ['', '', '', '']
      : [
          model.meanDivergence.toExponential(2),
          model.divergence99.toExponential(2),
          model.maxDivergence.toExponential(2),
          `${(100 * model.top1Agreement).toFixed(2)} %`,
        ]),
  ]);
  const head = ['model', 'weights', 'kv', 'memory', 'perplexity', 'change', 'mean KL', '99 % KL', 'max KL', 'same top'];
  return `${table(head, rows, new Set([3, 4, 5, 6, 7, 8, 9]))}\n\n${reference?.tokens ?? 0} tokens predicted; KL in nats, beside the first line`;
}

function signed(percent: number): string {
  return `${percent < 0 ? '' : '+'}${percent.toFixed(3)} %`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
