import type { Arguments, Flag } from './arguments.ts';
import { cliErrors } from './errors.ts';

/** Names of the config that are looked for where none is given. */
export const defaultConfigs = ['cupel.config.yaml', 'cupel.config.yml', 'cupel.config.json'];

/** Flags that every command takes. */
export const commonFlags: Readonly<Record<string, Flag>> = {
  help: { short: 'h', help: 'show this help' },
  json: { help: 'print one JSON object instead of a table' },
  quiet: { help: 'no progress' },
};

/** Flags of every command that works on a project. */
export const projectFlags: Readonly<Record<string, Flag>> = {
  config: { short: 'c', value: 'file', help: 'config file (default: cupel.config.yaml)' },
  store: { value: 'folder', help: "where runs, checkpoints and keys live (default: the config's)" },
  split: { value: 'name', help: "split to evaluate (default: the config's)" },
  threads: { short: 'j', value: 'n', help: 'worker threads; never changes a result' },
  trust: { help: "load the config's own plugins: they are code" },
};

/** @throws CUPEL_CLI_USAGE unless the value of --threads is a whole number from 1 to 256 */
export function checkThreads(threads: number): number {
  if (Number.isInteger(threads) && threads >= 1 && threads <= 256) return threads;
  throw cliErrors.CUPEL_CLI_USAGE({ message: `--threads wants a whole number from 1 to 256, got ${threads}` });
}

/** @throws CUPEL_CLI_USAGE where the value of a flag is given and is no whole number from `least` */
export function wholeNumber(given: Arguments, flag: string, least: number): number | undefined {
  const value = given.number(flag);
  if (value === undefined || (Number.isSafeInteger(value) && value >= least)) return value;
  throw cliErrors.CUPEL_CLI_USAGE({ message: `--${flag} wants a whole number from ${least}, got ${value}` });
}
