import { parseArgs } from 'node:util';
import { nearest } from '../kit/index.ts';
import { cliErrors } from './errors.ts';

/** One flag of a command. Without `value` it is a switch. */
export interface Flag {
  readonly short?: string;
  readonly value?: string;
  readonly help: string;
  readonly multiple?: boolean;
}

/** Checked arguments of a command. */
export interface Arguments {
  readonly positionals: readonly string[];
  text(name: string): string | undefined;
  texts(name: string): readonly string[];
  number(name: string): number | undefined;
  has(name: string): boolean;
}

/** Parses argv by a table of flags. @throws CUPEL_CLI_USAGE that names the flag, and a near one */
export function parseArguments(argv: readonly string[], flags: Readonly<Record<string, Flag>>): Arguments {
  const options = Object.fromEntries(
    Object.entries(flags).map(([name, flag]) => [
      name,
      {
        type: flag.value === undefined ? ('boolean' as const) : ('string' as const),
        ...(flag.short === undefined ? {} : { short: flag.short }),
        ...(flag.multiple === undefined ? {} : { multiple: flag.multiple }),
      },
    ]),
  );
  let parsed: { values: Record<string, unknown>; positionals: string[] };
  try {
    parsed = parseArgs({ args: [...argv], options, allowPositionals: true, strict: true });
  } catch (cause) {
    const unknown = /Unknown option '(--?[^']+)'/.exec((cause as Error).message)?.[1];
    if (unknown === undefined) throw cliErrors.CUPEL_CLI_USAGE({ message: (cause as Error).message, cause });
    const near = nearest(unknown.replace(/^-+/, ''), Object.keys(flags));
    throw cliErrors.CUPEL_CLI_USAGE({
      message: `unknown flag ${unknown}${near === null ? '' : `; did you mean --${near}?`}`,
      cause,
    });
  }
  const { values, positionals } = parsed;
  return {
    positionals,
    text: (name) => values[name] as string | undefined,
    texts: (name) => (values[name] as string[] | undefined) ?? [],
    has: (name) => values[name] === true,
    number: (name) => {
      const value = values[name] as string | undefined;
      if (value === undefined) return undefined;
      const number = Number(value);
      if (value.trim() === '' || !Number.isFinite(number) || number < 0) {
        throw cliErrors.CUPEL_CLI_USAGE({ message: `--${name} wants a number, got "${value}"` });
      }
      return number;
    },
  };
}
