import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { Project, ProjectOptions } from '../jobs/project.ts';
import type { RecipeOverrides } from '../plugins/recipe.ts';
import type { Arguments } from './arguments.ts';
import type { Command, CommandContext } from './command.ts';
import { cliErrors } from './errors.ts';
import { defaultConfigs, wholeNumber } from './flags.ts';
import * as print from './print-training.ts';

/** Flags that describe a training without a recipe. */
const withoutRecipe = ['base', 'data', 'replay', 'replay-per-step'] as const;
/** Flags that only a recipe gives a meaning. */
const recipeOnly = ['resume', 'fresh', 'ignore-memory'] as const;
const recipeOnlyValues = ['seed', 'seeds', 'export', 'output'] as const;

/**
 * @param optionsOf options of a project; @param openProject the project of the config that is named or lies here
 */
export function trainCommand(
  optionsOf: (context: CommandContext, config: string) => ProjectOptions,
  openProject: (context: CommandContext) => Promise<Project>,
  projectFlags: Command['flags'],
): Command {
  return {
    name: 'train',
    summary: 'make a candidate checkpoint from a base and data',
    usage: '<recipe.yaml> [flags] | --checkpoint <new id> --trainer <id> --data <id|file> [--base <id>]',
    examples: [
      'cupel train recipe.yaml --plan',
      'cupel train recipe.yaml',
      'cupel train recipe.yaml --resume',
      'cupel train recipe.yaml --seeds 3',
      'cupel train recipe.yaml --set learningRate=0.0001 --set tuning.rank=32 --checkpoint sft-r32',
      'cupel train recipe.yaml --trainer trl',
      'cupel train recipe.yaml --export axolotl -o axolotl',
      'cupel train --schema > recipe.schema.json',
      'cupel train --checkpoint sft --trainer sft --base base --data tickets.jsonl --set epochs=8 --set learningRate=0.0005',
    ],
    flags: {
      ...projectFlags,
      plan: { help: 'print settings, steps, tokens, memory and time, and stop' },
      resume: { help: 'go on with an interrupted training from its last checkpoint' },
      fresh: { help: 'throw away what an interrupted training left, and start over' },
      seed: { value: 'n', help: "seed of order and fresh adapters (default: the recipe's)" },
      seeds: { value: 'n', help: 'train with n seeds and compare on the validation suite' },
      'ignore-memory': { help: 'train although the plan needs more memory than is free' },
      export: { value: 'program', help: 'write it for axolotl, llama-factory, megatron or unsloth, and stop' },
      output: { short: 'o', value: 'folder', help: 'where --export writes (default: the name of the program)' },
      schema: { help: 'print the JSON Schema of recipes, and stop' },
      set: {
        value: 'name=value',
        help: 'a field of the recipe, or a parameter of the trainer; may be given more than once',
        multiple: true,
      },
      checkpoint: { value: 'id', help: "id of the new checkpoint (default: the recipe's output)" },
      trainer: { value: 'id', help: 'what trains: without a recipe the method, with one what computes it' },
      base: { value: 'id', help: 'without a recipe: checkpoint to start from' },
      data: {
        value: 'file',
        help: 'without a recipe: dataset id or JSONL file; may be given more than once',
        multiple: true,
      },
      replay: { value: 'file', help: 'without a recipe: rows mixed into each step to keep what the base knows' },
      'replay-per-step': { value: 'n', help: 'without a recipe: replay rows a step (default 8)' },
    },
    run: async (context) => {
      const { arguments: given } = context;
      if (given.has('schema')) {
        const { recipeJsonSchema } = await import('../plugins/recipe.ts');
        context.print(JSON.stringify(recipeJsonSchema(), null, context.json ? 0 : 2));
        return 0;
      }
      const [recipe, ...more] = given.positionals;
      if (more.length > 0) {
        throw cliErrors.CUPEL_CLI_USAGE({ message: `expected one recipe, got ${1 + more.length}` });
      }
      return recipe === undefined
        ? trainByFlags(context, openProject)
        : trainByRecipe(context, recipe, optionsOf, openProject);
    },
  };
}

async function trainByFlags(
  context: CommandContext,
  openProject: (context: CommandContext) => Promise<Project>,
): Promise<number> {
  const { arguments: given } = context;
  const stray = recipeOnly.find((flag) => given.has(flag)) ?? recipeOnlyValues.find((flag) => given.text(flag));
  if (stray !== undefined) throw cliErrors.CUPEL_CLI_USAGE({ message: `--${stray} goes with a recipe` });
  const { trainCheckpoint } = await import('../jobs/train.ts');
  const replay = given.text('replay');
  const result = await trainCheckpoint(
    await openProject(context),
    {
      checkpoint: required(given, 'checkpoint'),
      trainer: required(given, 'trainer'),
      base: given.text('base') ?? null,
      data: given.texts('data'),
      replay: replay === undefined ? null : { data: [replay], perStep: wholeNumber(given, 'replay-per-step', 1) ?? 8 },
      parameters: Object.fromEntries(given.texts('set').map(parameter)),
      role: 'candidate',
      description: '',
    },
    { planOnly: given.has('plan') },
  );
  context.print(JSON.stringify(result, null, context.json ? 0 : 2));
  return 0;
}

async function trainByRecipe(
  context: CommandContext,
  file: string,
  optionsOf: (context: CommandContext, config: string) => ProjectOptions,
  openProject: (context: CommandContext) => Promise<Project>,
): Promise<number> {
  const { arguments: given } = context;
  const stray = withoutRecipe.find((flag) => given.text(flag) !== undefined || given.texts(flag).length > 0);
  if (stray !== undefined) {
    throw cliErrors.CUPEL_CLI_USAGE({
      message: `--${stray} goes without a recipe; a recipe says it itself`,
      remedy: `Write it in ${file}, or change it with --set.`,
    });
  }
  if (given.has('resume') && given.has('fresh')) {
    throw cliErrors.CUPEL_CLI_USAGE({ message: '--resume goes on and --fresh starts over: give one of them' });
  }
  if (given.text('output') !== undefined && given.text('export') === undefined) {
    throw cliErrors.CUPEL_CLI_USAGE({
      message: '--output is the folder of --export; a training is kept in the store',
      remedy: 'Name the new checkpoint with --checkpoint, and another store with --store.',
    });
  }
  const { loadRecipe } = await import('../plugins/recipe.ts');
  const recipe = await loadRecipe(file, overridesOf(given));
  const project = await projectOf(context, file, optionsOf, openProject);
  const program = given.text('export');
  if (program !== undefined) {
    const { exportTraining } = await import('../jobs/export-training.ts');
    const result = await exportTraining(project, recipe, program, resolve(given.text('output') ?? program));
    context.print(context.json ? JSON.stringify(result) : print.exported(result));
    return 0;
  }
  const options = {
    command: commandOf(file, given),
    resume: given.has('resume'),
    fresh: given.has('fresh'),
    ignoreMemory: given.has('ignore-memory'),
  };
  if (recipe.sweep !== null) {
    if (given.has('plan')) {
      const { planSweep } = await import('../jobs/sweep-plan.ts');
      const plan = await planSweep(project, recipe);
      context.print(context.json ? JSON.stringify(plan) : print.sweepPlan(plan));
      return 0;
    }
    const { runSweep } = await import('../jobs/sweep.ts');
    const result = await runSweep(project, recipe, {
      ...options,
      onPlan: (plan) => project.progress.note(print.sweepPlan(plan)),
    });
    context.print(context.json ? JSON.stringify(result) : print.sweep(result));
    return 0;
  }
  if (given.has('plan')) {
    const { planRecipe } = await import('../jobs/recipe-plan.ts');
    const plan = await planRecipe(project, recipe);
    context.print(context.json ? JSON.stringify(plan) : print.plan(plan));
    return 0;
  }
  const { trainRecipe } = await import('../jobs/train-recipe.ts');
  const result = await trainRecipe(project, recipe, {
    ...options,
    onPlan: (plan) => project.progress.note(print.plan(plan)),
    onEvent: (event) => {
      if (event.type === 'example') project.progress.note(print.example(event, process.stderr));
    },
  });
  context.print(context.json ? JSON.stringify(result) : print.trained(result));
  return 0;
}

/** The config that is named, that lies here or beside the recipe; else none is needed. */
async function projectOf(
  context: CommandContext,
  file: string,
  optionsOf: (context: CommandContext, config: string) => ProjectOptions,
  openProject: (context: CommandContext) => Promise<Project>,
): Promise<Project> {
  if (context.arguments.text('config') !== undefined || defaultConfigs.some((name) => existsSync(name)))
    return openProject(context);
  const beside = defaultConfigs.map((name) => join(dirname(file), name)).find((path) => existsSync(path));
  const jobs = await import('../jobs/project.ts');
  return beside === undefined
    ? jobs.openBareProject(file, optionsOf(context, ''))
    : jobs.openProject(optionsOf(context, beside));
}

function overridesOf(given: Arguments): RecipeOverrides {
  const [output, trainer] = [given.text('checkpoint'), given.text('trainer')];
  const [seed, seeds] = (['seed', 'seeds'] as const).map((flag) => wholeNumber(given, flag, flag === 'seed' ? 0 : 1));
  return {
    ...(output === undefined ? {} : { output }),
    ...(trainer === undefined ? {} : { trainer }),
    ...(seed === undefined ? {} : { seed }),
    ...(seeds === undefined ? {} : { seeds }),
    set: Object.fromEntries(given.texts('set').map(parameter)),
  };
}

/** The command as it was given, without what says how to start: `--resume` or `--fresh` can be added to it. */
function commandOf(file: string, given: Arguments): string {
  const flags = ['config', 'store', 'threads', 'seed', 'seeds', 'checkpoint', 'trainer'].flatMap((flag) => {
    const value = given.text(flag);
    return value === undefined ? [] : [`--${flag}`, quoted(value)];
  });
  const set = given.texts('set').flatMap((text) => ['--set', quoted(text)]);
  const switches = ['trust', 'ignore-memory'].filter((flag) => given.has(flag)).map((flag) => `--${flag}`);
  return ['cupel train', quoted(file), ...flags, ...set, ...switches].join(' ');
}

function quoted(text: string): string {
  return /^[\w./=:,@+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

function required(given: Arguments, flag: string): string {
  const value = given.text(flag);
  if (value !== undefined) return value;
  throw cliErrors.CUPEL_CLI_USAGE({
    message: `--${flag} is missing`,
    remedy: 'Name a recipe (cupel train recipe.yaml), or give --checkpoint, --trainer and --data.',
  });
}

function parameter(text: string): [string, unknown] {
  const at = text.indexOf('=');
  if (at < 1) throw cliErrors.CUPEL_CLI_USAGE({ message: `--set wants name=value, got "${text}"` });
  const value = text.slice(at + 1);
  try {
    return [text.slice(0, at), JSON.parse(value)];
  } catch {
    return [text.slice(0, at), value];
  }
}
