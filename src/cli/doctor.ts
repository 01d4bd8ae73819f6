import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Command, CommandContext } from './command.ts';
import { defaultConfigs, projectFlags } from './flags.ts';
import * as print from './print.ts';

export const doctorCommand: Command = {
  name: 'doctor',
  summary: 'what this machine has: Node, the native addon, the tiny base, environments of trainers',
  usage: '[--setup trl]',
  examples: ['cupel doctor', 'cupel doctor --setup trl', 'cupel doctor --setup trl --python /usr/bin/python3.11'],
  flags: {
    config: projectFlags['config'] ?? { help: '' },
    store: projectFlags['store'] ?? { help: '' },
    setup: { value: 'trainer', help: 'install what this trainer runs on, and run its self-test' },
    python: { value: 'file', help: 'interpreter that the environment is made with (default: python3)' },
  },
  run: async (context) => {
    const { examine, setUpTrainer } = await import('../jobs/doctor.ts');
    const store = await storeOf(context);
    const setup = context.arguments.text('setup');
    const python = context.arguments.text('python');
    const findings =
      setup === undefined
        ? await examine(store)
        : [
            await setUpTrainer(store, setup, {
              note: (line) => context.progress.note(`  ${line}`),
              signal: context.signal,
              ...(python === undefined ? {} : { python }),
            }),
          ];
    context.print(context.json ? JSON.stringify(findings) : print.findings(findings));
    return findings.every(({ ok }) => ok) ? 0 : 2;
  },
};

/** The store of the project, if there is one here; else where it would be. */
async function storeOf(context: CommandContext): Promise<string> {
  const given = context.arguments.text('store');
  if (given !== undefined) return resolve(given);
  const config = context.arguments.text('config') ?? defaultConfigs.find((file) => existsSync(file));
  if (config === undefined) return resolve('.cupel');
  const { loadConfig } = await import('../plugins/config.ts');
  return (await loadConfig(config)).store;
}
