#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { formatError, isCupelError, nearest, packageRoot } from '../kit/index.ts';
import { parseArguments } from './arguments.ts';
import type { Command } from './command.ts';
import { commands } from './commands.ts';
import { cliErrors } from './errors.ts';
import { commonFlags } from './flags.ts';
import { openProgress } from './progress.ts';

const interruption = new AbortController();
process.exitCode = await main(process.argv.slice(2));

async function main(argv: readonly string[]): Promise<number> {
  const json = argv.includes('--json');
  try {
    return await dispatch(argv);
  } catch (error) {
    if (interruption.signal.aborted && !isCupelError(error)) {
      return report(cliErrors.CUPEL_CLI_INTERRUPTED({ message: 'the command was interrupted', cause: error }), json);
    }
    return report(error, json);
  }
}

async function dispatch(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv;
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    process.stdout.write(overview());
    return name === undefined ? 2 : 0;
  }
  if (name === '--version' || name === '-V') {
    process.stdout.write(`${version()}\n`);
    return 0;
  }
  const command = commands.find((candidate) => candidate.name === name);
  if (!command) {
    const near = nearest(
      name,
      commands.map((candidate) => candidate.name),
    );
    throw cliErrors.CUPEL_CLI_USAGE({
      message: `no command is named "${name}"${near === null ? '' : `; did you mean "${near}"?`}`,
    });
  }
  const parsed = parseArguments(rest, { ...command.flags, ...commonFlags });
  if (parsed.has('help')) {
    process.stdout.write(helpOf(command));
    return 0;
  }
  const quiet = parsed.has('quiet');
  return command.run({
    arguments: parsed,
    print: (text) => void process.stdout.write(`${text}\n`),
    progress: openProgress(process.stderr, quiet ? 'quiet' : process.stderr.isTTY ? 'live' : 'notes'),
    signal: interruptSignal(),
    json: parsed.has('json'),
  });
}

/** One Ctrl-C finishes what is in flight and saves, two leave. */
function interruptSignal(): AbortSignal {
  for (const [name, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    process.on(name, () => {
      if (interruption.signal.aborted) process.exit(code);
      process.stderr.write('\nfinishing what is in flight; once more to leave at once\n');
      interruption.abort(code);
    });
  }
  return interruption.signal;
}

function report(error: unknown, json: boolean): number {
  if (isCupelError(error)) {
    if (json) {
      process.stdout.write(
        `${JSON.stringify({ error: { code: error.code, message: error.message, where: error.where ?? null, remedy: error.remedy } })}\n`,
      );
    }
    process.stderr.write(`${formatError(error)}\n`);
    return error.exit;
  }
  process.stderr.write(`internal error: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  return 70;
}

function overview(): string {
  const width = Math.max(...commands.map((command) => command.name.length));
  const lines = commands.map((command) => `  ${command.name.padEnd(width)}  ${command.summary}`);
  return `cupel ${version()}: may I ship this checkpoint?

usage: cupel <command> [flags]

${lines.join('\n')}

exit codes: 0 promoted or completed · 1 rejected · 2 usage or configuration · 3 inconclusive
            4 invalid evidence · 70 internal error · 130/143 interrupted, resumable

Start with: cupel demo
`;
}

function helpOf(command: Command): string {
  const flags = Object.entries({ ...command.flags, ...commonFlags }).map(([name, flag]) => {
    const left = `${flag.short === undefined ? '    ' : `-${flag.short}, `}--${name}${flag.value === undefined ? '' : ` <${flag.value}>`}`;
    return `  ${left.padEnd(26)} ${flag.help}`;
  });
  return `${command.summary}

usage: cupel ${command.name} ${command.usage}

${flags.join('\n')}

examples:
${command.examples.map((example) => `  ${example}`).join('\n')}
`;
}

function version(): string {
  return (JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string }).version;
}
