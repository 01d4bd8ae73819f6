import type { Completion, GenerateRequest } from './engine.ts';
import type { Case, Suite } from './suite.ts';
import type { ScoredOutput } from './validator.ts';

/** `Model.generate`, or something that answers in its place. */
export type Generate = (requests: readonly GenerateRequest[], signal?: AbortSignal) => AsyncIterable<Completion>;

/**
 * The port through which `run` plays episodes: the agent room fills it, jobs hand it over.
 * Request ids are `<case id>#<turn>`, turns count from 1. One result a case, in any order; results do not depend on
 * which cases are played together.
 */
export type PlayEpisodes = (
  suite: Suite,
  cases: readonly Case[],
  generate: Generate,
  options?: EpisodeOptions,
) => AsyncIterable<EpisodeResult>;

export interface EpisodeOptions {
  readonly signal?: AbortSignal;
  /** Prompt and completion together, in tokens, as the model says. */
  readonly contextLength?: number;
  /** Of this epoch of the run, for suites that sample. Default 0. */
  readonly seed?: number;
}

export interface EpisodeResult {
  /** Id of the case. */
  readonly case: string;
  /** null: the episode could not be played, for the reason in `error`. */
  readonly output: ScoredOutput | null;
  readonly error?: { readonly code: string; readonly message: string };
  /** Sums over the turns. */
  readonly usage: { readonly promptTokens: number; readonly generatedTokens: number };
}
