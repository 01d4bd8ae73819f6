import type { Progress } from '../contracts/index.ts';
import type { Arguments, Flag } from './arguments.ts';

/** What a command gets: its arguments, where to write results, where progress goes, when to stop. */
export interface CommandContext {
  readonly arguments: Arguments;
  /** Results: stdout. */
  readonly print: (text: string) => void;
  readonly progress: Progress;
  readonly signal: AbortSignal;
  readonly json: boolean;
}

/** One command of the command line. `run` imports its job when called, so that `--help` stays fast. */
export interface Command {
  readonly name: string;
  readonly summary: string;
  readonly usage: string;
  readonly examples: readonly string[];
  readonly flags: Readonly<Record<string, Flag>>;
  /** Returns the exit code. */
  run(context: CommandContext): Promise<number>;
}
