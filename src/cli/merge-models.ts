import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import type { MergeRecipe, MergeResult } from '../jobs/merge-models.ts';
import type { Arguments } from './arguments.ts';
import type { Command, CommandContext } from './command.ts';
import { cliErrors } from './errors.ts';
import { checkThreads, wholeNumber } from './flags.ts';

const flagsOfRecipe = [
  'method',
  'base',
  'models',
  'adapter',
  'density',
  't',
  'lambda',
  'rescale',
  'dtype',
  'base-type',
];

/** @param locate path of a checkpoint that is named by an id of the config */
export function mergeModelsCommand(
  locate: (context: CommandContext, name: string) => Promise<string>,
  projectFlags: Command['flags'],
): Command {
  return {
    name: 'merge-models',
    summary: 'merge checkpoints of one base, or an adapter into its base',
    usage: '<recipe.yaml> | --method <name> --base <checkpoint> --models <list> -o <folder>',
    examples: [
      'cupel merge-models recipe.yaml -o ./merged',
      'cupel merge-models --method linear --models ./a=0.5,./b=0.5 -o ./soup',
      'cupel merge-models --method slerp --base ./a --models ./b --t 0.3 -o ./between',
      'cupel merge-models --method task-arithmetic --base ./base --models ./math,./rude=-0.5 -o ./merged',
      'cupel merge-models --method ties --base ./base --models ./a=0.5,./b=0.5 --density 0.5 -o ./merged',
      'cupel merge-models --method dare-ties --base ./base --models ./a,./b --density 0.3 --rescale keep-l1 -o ./merged',
      'cupel merge-models --method adapter --base ./base --adapter ./lora --dtype bf16 -o ./merged',
      'cupel merge-models --method adapter --base ./base --adapter ./qlora --base-type q8_0 -o ./merged',
    ],
    flags: {
      ...Object.fromEntries(Object.entries(projectFlags).filter(([name]) => ['config', 'threads'].includes(name))),
      out: { short: 'o', value: 'folder', help: "checkpoint to write (default: the recipe's `out`)" },
      method: { value: 'name', help: 'linear slerp task-arithmetic ties dare-linear dare-ties adapter' },
      base: { value: 'checkpoint', help: 'what the models were trained from; gives config, tokenizer and template' },
      models: { value: 'list', help: 'checkpoints with weights: path=0.5,path=0.5 (weight 1 where none is given)' },
      adapter: { value: 'folder', help: 'PEFT folder of a LoRA adapter' },
      density: { value: 'share', help: 'ties, dare: share of the differences that is kept (default 0.5)' },
      t: { value: 'share', help: 'slerp: 0 is the base, 1 the model (default 0.5)' },
      lambda: { value: 'factor', help: 'factor of the merged difference (default 1)' },
      rescale: { value: 'name', help: 'dare: inverse-density (the paper, default), keep-l1 (mergekit), none' },
      dtype: { value: 'name', help: 'f32 or bf16 (default: as the base is stored; of an adapter f32)' },
      'base-type': {
        value: 'name',
        help: 'adapter: what the base was held as in training: f32 bf16 q8_0 q4_0 (default: by its record)',
      },
      seed: { value: 'n', help: 'dare: which differences are dropped (default 1)' },
    },
    run: async (context) => {
      const { arguments: given } = context;
      const jobs = await import('../jobs/merge-models.ts');
      const { checkpointPath } = await import('../jobs/quantize.ts');
      const find = async (name: string): Promise<string> =>
        (await checkpointPath(name)) ?? (await locate(context, name));
      const recipe = await recipeOf(given, find);
      const output = given.text('out') ?? recipe.out;
      if (output === null) throw cliErrors.CUPEL_CLI_USAGE({ message: 'give a folder to write with -o' });
      const threads = given.number('threads');
      const step = {
        base: recipe.base,
        output,
        seed: wholeNumber(given, 'seed', 0) ?? recipe.seed,
        progress: context.progress,
        signal: context.signal,
        ...(threads === undefined ? {} : { threads: checkThreads(threads) }),
      };
      const result =
        recipe.adapter === null
          ? await jobs.mergeModels({ ...step, parameters: recipe.parameters })
          : await jobs.mergeAdapter({
              ...step,
              adapter: recipe.adapter,
              dtype: recipe.parameters['dtype'] === 'bf16' ? 'bf16' : 'f32',
              baseType: recipe.baseType,
            });
      context.print(
        context.json ? JSON.stringify(result) : describe(result, recipe.base === null ? 'the first model' : 'the base'),
      );
      return 0;
    },
  };
}

async function recipeOf(given: Arguments, find: (name: string) => Promise<string>): Promise<MergeRecipe> {
  const { checkMergeRecipe, readMergeRecipe } = await import('../jobs/merge-models.ts');
  const [file, ...more] = given.positionals;
  if (more.length > 0) {
    throw cliErrors.CUPEL_CLI_USAGE({ message: `one recipe is merged at a time, got ${1 + more.length}` });
  }
  const named = flagsOfRecipe.filter((flag) => given.text(flag) !== undefined);
  if (file !== undefined) {
    if (named.length === 0) return readMergeRecipe(file);
    throw cliErrors.CUPEL_CLI_USAGE({ message: `--${named[0]} says again what ${basename(file)} says` });
  }
  if (named.length === 0) throw cliErrors.CUPEL_CLI_USAGE({ message: 'name a recipe, or a method with --method' });
  const [method, base, models, adapter] = ['method', 'base', 'models', 'adapter'].map((flag) => given.text(flag));
  const numbers = Object.fromEntries(
    ['density', 't', 'lambda'].flatMap((flag) => {
      const value = given.number(flag);
      return value === undefined ? [] : [[flag, value]];
    }),
  );
  const names = (flag: string, field: string): object => {
    const value = given.text(flag);
    return value === undefined ? {} : { [field]: value };
  };
  const value = {
    ...(method === undefined ? {} : { method }),
    ...(base === undefined ? {} : { base: await find(base) }),
    ...(adapter === undefined ? {} : { adapter }),
    ...(models === undefined ? {} : { models: await modelsOf(models, find) }),
    ...numbers,
    ...names('rescale', 'rescale'),
    ...names('dtype', 'dtype'),
    ...names('base-type', 'baseType'),
  };
  return checkMergeRecipe(value, 'flags', process.cwd());
}

/** `path=weight,path`: a number after the last = is the weight, unless that is the name of something that exists. */
function modelsOf(
  text: string,
  find: (name: string) => Promise<string>,
): Promise<{ readonly path: string; readonly weight?: number }[]> {
  return Promise.all(
    text.split(',').map(async (part) => {
      const [, name, weight] = /^(.*)=(-?[\d.]+(?:e-?\d+)?)$/i.exec(part.trim()) ?? [];
      if (name === undefined || weight === undefined || existsSync(part.trim()))
        return { path: await find(part.trim()) };
      return { path: await find(name), weight: Number(weight) };
    }),
  );
}

/** @param from what the change is measured from */
function describe({ path, digest, method, metrics }: MergeResult, from: string): string {
  const change = metrics['relative_change'];
  return [
    path,
    `${method}, ${digest}`,
    ...(change === undefined
      ? []
      : [`${(100 * change).toPrecision(3)} % away from ${from}, by the norm of all weights`]),
  ].join('\n');
}
