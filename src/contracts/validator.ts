import type { PluginHead } from './plugin.ts';
import type { Scores } from './score.ts';
import type { Case } from './suite.ts';
import type { Trace } from './trace.ts';

/** Deterministic: no model, no clock, no network. One file each in `suites/validators`. */
export interface Validator extends PluginHead<'validator'> {
  /** JSON Schema of `with`, checked when the suite is loaded. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Metric names that it can emit; `*` where they depend on the options. */
  readonly metrics: readonly string[];
  validate(input: ValidatorInput): Promise<Scores>;
}

export interface ValidatorInput {
  readonly case: Case;
  readonly output: ScoredOutput;
  readonly with: Readonly<Record<string, unknown>>;
}

/** What was produced for a case; which fields are set follows from the suite's task. */
export interface ScoredOutput {
  /** Completion text (generate), last assistant text (episode), chosen option (choice). */
  readonly text: string;
  /** choice: natural-log likelihood of each option, with the lengths that normalise it. */
  readonly options?: readonly {
    readonly text: string;
    readonly logLikelihood: number;
    readonly characters: number;
    readonly tokens: number;
  }[];
  /** episode: all events. */
  readonly trace?: Trace;
  /** episode: final state of the world, JSON. */
  readonly state?: unknown;
}
