import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../kit/index.ts';
import type { ProjectOptions } from '../jobs/project.ts';
import type { Arguments } from './arguments.ts';
import type { Command, CommandContext } from './command.ts';
import { cliErrors } from './errors.ts';
import { doctorCommand } from './doctor.ts';
import { checkThreads, defaultConfigs, projectFlags } from './flags.ts';
import { extendVocabularyCommand } from './extend-vocabulary.ts';
import { mergeModelsCommand } from './merge-models.ts';
import * as print from './print.ts';
import { quantizeCommand } from './quantize.ts';
import { trainCommand } from './train.ts';

export const commands: readonly Command[] = [
  {
    name: 'demo',
    summary: 'the whole loop on the shipped tiny base: evaluate, train, gate, promote, block, report',
    usage: '[flags]',
    examples: ['cupel demo', 'cupel demo --json > demo.json', 'cupel demo --store /tmp/demo --split validation'],
    flags: {
      store: projectFlags['store'] ?? { help: '' },
      split: projectFlags['split'] ?? { help: '' },
      threads: projectFlags['threads'] ?? { help: '' },
    },
    run: async (context) => {
      const { runDemo } = await import('../jobs/demo.ts');
      const store = context.arguments.text('store') ?? join('.cupel', 'demo');
      const result = await runDemo({
        ...options(context, join(packageRoot(), 'fixtures', 'demo', 'cupel.config.yaml')),
        store,
      });
      context.print(context.json ? print.pipelineJson(result) : print.pipeline(result));
      return 0;
    },
  },
  {
    name: 'pipeline',
    summary: "run the steps of the config's pipeline",
    usage: '[flags]',
    examples: ['cupel pipeline -c cupel.config.yaml'],
    flags: projectFlags,
    run: async (context) => {
      const { runPipeline } = await import('../jobs/pipeline.ts');
      const result = await runPipeline(await project(context), { fresh: false });
      context.print(context.json ? print.pipelineJson(result) : print.pipeline(result));
      return 0;
    },
  },
  {
    name: 'resume',
    summary: 'go on with an interrupted demo or pipeline',
    usage: '[flags]',
    examples: ['cupel resume', 'cupel resume --store .cupel/demo'],
    flags: projectFlags,
    run: async (context) => {
      const { resumePipeline } = await import('../jobs/resume.ts');
      const given = context.arguments.text('store');
      const stores = given === undefined ? [join('.cupel', 'demo'), '.cupel'] : [given];
      const result = await resumePipeline(stores, (config, store) => ({ ...options(context, config), store }));
      context.print(context.json ? print.pipelineJson(result) : print.pipeline(result));
      return 0;
    },
  },
  {
    name: 'run',
    summary: 'evaluate a checkpoint on suites',
    usage: '[suite...] --checkpoint <id|path>',
    examples: ['cupel run tickets --checkpoint sft', 'cupel run ./my-suite --checkpoint ./my-checkpoint --json'],
    flags: {
      ...projectFlags,
      checkpoint: { value: 'id', help: 'id in the config, a checkpoint folder, or a GGUF file' },
      limit: { short: 'n', value: 'n', help: 'only the first n cases' },
    },
    run: async (context) => {
      if (context.arguments.positionals.length === 0) {
        throw cliErrors.CUPEL_CLI_USAGE({
          message: 'name at least one suite',
          remedy: 'Run `cupel list` for those that are shipped.',
        });
      }
      const { evaluateCheckpoint } = await import('../jobs/evaluate.ts');
      const opened = await project(context);
      const limit = context.arguments.number('limit');
      const runs = await evaluateCheckpoint(opened, {
        checkpoint: required(context.arguments, 'checkpoint'),
        suites: context.arguments.positionals,
        ...(limit === undefined ? {} : { limit }),
      });
      context.print(context.json ? JSON.stringify(runs) : print.metrics(runs));
      return 0;
    },
  },
  trainCommand(options, project, projectFlags),
  {
    name: 'mine',
    summary: 'turn failures on the validation split into preference pairs',
    usage: '<suite> --checkpoint <id> --dataset <new id>',
    examples: ['cupel mine tickets --checkpoint sft --dataset pairs --limit 400'],
    flags: {
      ...projectFlags,
      checkpoint: { value: 'id', help: 'whose failures' },
      dataset: { value: 'id', help: 'id of the new dataset' },
      limit: { short: 'n', value: 'n', help: 'at most n pairs (default 400)' },
      ignore: {
        value: 'field',
        help: 'a field whose difference alone is no failure; may be given more than once',
        multiple: true,
      },
    },
    run: async (context) => {
      const { minePairs } = await import('../jobs/mine.ts');
      const result = await minePairs(await project(context), {
        checkpoint: required(context.arguments, 'checkpoint'),
        dataset: required(context.arguments, 'dataset'),
        suite: onePositional(context.arguments, 'suite'),
        limit: context.arguments.number('limit') ?? 400,
        ignoreFields: context.arguments.texts('ignore'),
      });
      context.print(JSON.stringify(result, null, context.json ? 0 : 2));
      return 0;
    },
  },
  {
    name: 'gate',
    summary: 'compare a candidate with what is current and decide',
    usage: '<candidate>',
    examples: ['cupel gate sft', 'cupel gate sft --json'],
    flags: projectFlags,
    run: async (context) => {
      const { gateCandidate } = await import('../jobs/gate.ts');
      const { exitCodeOf } = await import('../gate/index.ts');
      const verdict = await gateCandidate(await project(context), onePositional(context.arguments, 'candidate'));
      context.print(context.json ? JSON.stringify(verdict) : print.verdict(verdict));
      return exitCodeOf(verdict.kind);
    },
  },
  {
    name: 'compare',
    summary: 'differences of two checkpoints, case by case; decides nothing',
    usage: '<baseline> <candidate>',
    examples: ['cupel compare base sft', 'cupel compare rules sft --json'],
    flags: projectFlags,
    run: async (context) => {
      const { compareCheckpoints } = await import('../jobs/compare.ts');
      const [baseline, candidate, ...more] = context.arguments.positionals;
      if (baseline === undefined || candidate === undefined || more.length > 0) {
        throw cliErrors.CUPEL_CLI_USAGE({
          message: `expected a baseline and a candidate, got ${context.arguments.positionals.length} names`,
        });
      }
      const found = await compareCheckpoints(await project(context), baseline, candidate);
      context.print(context.json ? JSON.stringify(found) : print.differences(found));
      return 0;
    },
  },
  {
    name: 'promote',
    summary: 'make a candidate with a PROMOTE verdict current, with signed evidence',
    usage: '<candidate>',
    examples: ['cupel promote sft'],
    flags: projectFlags,
    run: async (context) => {
      const { promoteCandidate } = await import('../jobs/promote.ts');
      const entry = await promoteCandidate(await project(context), onePositional(context.arguments, 'candidate'));
      context.print(
        context.json
          ? JSON.stringify(entry)
          : `promoted ${entry.checkpoint.id} (${entry.checkpoint.digest})\nevidence ${entry.evidence ?? 'none'}`,
      );
      return 0;
    },
  },
  {
    name: 'adopt',
    summary: 'make a checkpoint the first baseline of a channel, without a verdict',
    usage: '<checkpoint>',
    examples: ['cupel adopt base'],
    flags: projectFlags,
    run: async (context) => {
      const { adoptBaseline } = await import('../jobs/promote.ts');
      const entry = await adoptBaseline(await project(context), onePositional(context.arguments, 'checkpoint'));
      context.print(
        context.json ? JSON.stringify(entry) : `current is ${entry.checkpoint.id} (${entry.checkpoint.digest})`,
      );
      return 0;
    },
  },
  {
    name: 'rollback',
    summary: 'make the previous checkpoint of the channel current again',
    usage: '',
    examples: ['cupel rollback'],
    flags: projectFlags,
    run: async (context) => {
      const { rollBack } = await import('../jobs/promote.ts');
      const entry = await rollBack(await project(context));
      context.print(
        context.json ? JSON.stringify(entry) : `current is ${entry.checkpoint.id} (${entry.checkpoint.digest})`,
      );
      return 0;
    },
  },
  {
    name: 'history',
    summary: 'what was current, and why',
    usage: '',
    examples: ['cupel history'],
    flags: projectFlags,
    run: async (context) => {
      const { checkpoints, config } = await project(context);
      const entries = await checkpoints.history(config.channel);
      context.print(context.json ? JSON.stringify(entries) : print.history(entries));
      return 0;
    },
  },
  {
    name: 'report',
    summary: 'write the scorecard of checkpoints',
    usage: '<checkpoint...>',
    examples: ['cupel report sft', 'cupel report base sft --format scorecard --format markdown'],
    flags: {
      ...projectFlags,
      format: {
        value: 'id',
        help: 'report plugin (default: those of the config, else all); may be given more than once',
        multiple: true,
      },
    },
    run: async (context) => {
      if (context.arguments.positionals.length === 0) {
        throw cliErrors.CUPEL_CLI_USAGE({ message: 'name at least one checkpoint' });
      }
      const { writeReports } = await import('../jobs/report.ts');
      const formats = context.arguments.texts('format');
      const opened = await project(context);
      const paths = await writeReports(
        opened,
        context.arguments.positionals,
        formats.length === 0 ? opened.config.reports : formats,
      );
      context.print(context.json ? JSON.stringify(paths) : paths.join('\n'));
      return 0;
    },
  },
  {
    name: 'verify',
    summary: 'check the evidence of a promotion: digests, chain, signature',
    usage: '[checkpoint]',
    examples: [
      'cupel verify',
      'cupel verify sft',
      'cupel verify --store .cupel/demo -c fixtures/demo/cupel.config.yaml',
    ],
    flags: projectFlags,
    run: async (context) => {
      const { verifyPromoted } = await import('../jobs/verify.ts');
      const [id, ...more] = context.arguments.positionals;
      if (more.length > 0)
        throw cliErrors.CUPEL_CLI_USAGE({ message: `expected at most one checkpoint, got ${more.length + 1}` });
      const result = await verifyPromoted(await project(context), id);
      context.print(context.json ? JSON.stringify(result) : print.checks(result));
      return result.ok ? 0 : 4;
    },
  },
  quantizeCommand(async (context, name) => {
    const { findCheckpoint, wholeCheckpoint } = await import('../jobs/project.ts');
    return wholeCheckpoint(await findCheckpoint(await project(context), name)).path;
  }, projectFlags),
  mergeModelsCommand(async (context, name) => {
    const { findCheckpoint, wholeCheckpoint } = await import('../jobs/project.ts');
    return wholeCheckpoint(await findCheckpoint(await project(context), name)).path;
  }, projectFlags),
  extendVocabularyCommand(async (context, name) => {
    const { findCheckpoint, wholeCheckpoint } = await import('../jobs/project.ts');
    return wholeCheckpoint(await findCheckpoint(await project(context), name)).path;
  }, projectFlags),
  {
    name: 'list',
    summary: 'plugins and suites that are there',
    usage: '',
    examples: ['cupel list', 'cupel list --json'],
    flags: {},
    run: async (context) => {
      const { listAll } = await import('../jobs/list.ts');
      const found = await listAll();
      context.print(context.json ? JSON.stringify(found) : print.listing(found));
      return 0;
    },
  },
  {
    name: 'suite',
    summary: 'check a suite and its cases without a model',
    usage: 'check <suite|folder...>',
    examples: ['cupel suite check tickets', 'cupel suite check ./my-suite'],
    flags: {},
    run: async (context) => {
      const [verb, ...names] = context.arguments.positionals;
      if (verb !== 'check' || names.length === 0)
        throw cliErrors.CUPEL_CLI_USAGE({ message: 'usage: cupel suite check <suite|folder...>' });
      const { checkSuites } = await import('../jobs/suite-check.ts');
      const results = await checkSuites(names);
      context.print(context.json ? JSON.stringify(results) : print.suiteChecks(results));
      return results.every(({ problems }) => problems.length === 0) ? 0 : 2;
    },
  },
  doctorCommand,
];

function options(context: CommandContext, config: string): ProjectOptions {
  const { arguments: given } = context;
  const store = given.text('store');
  const split = given.text('split');
  const threads = given.number('threads');
  return {
    config,
    progress: context.progress,
    signal: context.signal,
    trust: given.has('trust'),
    ...(store === undefined ? {} : { store }),
    ...(split === undefined ? {} : { split }),
    ...(threads === undefined ? {} : { threads: checkThreads(threads) }),
  };
}

async function project(context: CommandContext) {
  const { openProject } = await import('../jobs/project.ts');
  const named = context.arguments.text('config');
  const config = named ?? defaultConfigs.find((file) => existsSync(file));
  if (config === undefined) {
    throw cliErrors.CUPEL_CLI_USAGE({
      message: `there is no config here: looked for ${defaultConfigs.join(', ')}`,
      remedy: 'Name one with -c, or copy fixtures/demo/cupel.config.yaml to start from.',
    });
  }
  return openProject(options(context, config));
}

function required(given: Arguments, flag: string): string {
  const value = given.text(flag);
  if (value === undefined) throw cliErrors.CUPEL_CLI_USAGE({ message: `--${flag} is missing` });
  return value;
}

function onePositional(given: Arguments, what: string): string {
  const [value, ...more] = given.positionals;
  if (value === undefined || more.length > 0)
    throw cliErrors.CUPEL_CLI_USAGE({ message: `expected one ${what}, got ${given.positionals.length}` });
  return value;
}
