import type { Scores } from './score.ts';
import type { Layer } from './suite.ts';
import type { ScoredOutput } from './validator.ts';

/** One scored case of a run: the only truth, every aggregate is recomputed from rows. Canonical: no clock, no machine. */
export interface Row {
  readonly version: 1;
  readonly suite: string;
  readonly layer: Layer;
  readonly split: string;
  readonly case: string;
  readonly caseDigest: string;
  readonly cluster: string | null;
  readonly tags: readonly string[];
  readonly epoch: number;
  /** `error`: no output; its scores are absent, and it counts as a failure in every rate unless the policy says otherwise. */
  readonly status: 'ok' | 'error';
  readonly error?: { readonly code: string; readonly message: string };
  readonly output: ScoredOutput | null;
  /** Completion without the trailing end-of-turn, in tokens; 0 where there was none. */
  readonly usage: { readonly promptTokens: number; readonly generatedTokens: number };
  readonly scores: Scores;
}

/** What identifies a run. Two runs with equal identity have equal rows. */
export interface RunIdentity {
  readonly version: 1;
  /** First 16 hex characters of the sha256 over the canonical rest. */
  readonly id: string;
  readonly checkpoint: { readonly id: string; readonly digest: string };
  readonly engine: string;
  readonly suite: { readonly id: string; readonly version: string; readonly digest: string; readonly layer: Layer };
  readonly split: string;
  readonly decoding: Readonly<Record<string, unknown>>;
  readonly validators: readonly string[];
  readonly seed: number;
  readonly epochs: number;
  /** Which cases: how many, and the sha256 over their digests in order of id. Left out only by hand-made runs. */
  readonly cases?: { readonly count: number; readonly digest: string };
}

/** A finished or unfinished run as the store gives it. */
export interface Run {
  readonly identity: RunIdentity;
  readonly complete: boolean;
  readonly rows: readonly Row[];
}
