import type { Row, Run, RunIdentity } from './row.ts';

/** Runs as append-only JSONL segments with a checksum a line. A torn last line is dropped on open. */
export interface RunStore {
  /** Opens a run for appending; rows of an earlier, interrupted attempt are given back. */
  begin(identity: RunIdentity): Promise<RunWriter>;
  read(id: string): Promise<Run>;
  list(): Promise<readonly { readonly identity: RunIdentity; readonly complete: boolean }[]>;
}

export interface RunWriter {
  /** Rows already there, keyed `case@epoch`. */
  readonly done: ReadonlyMap<string, Row>;
  readonly complete: boolean;
  append(row: Row): Promise<void>;
  /** Marks the run complete: all cases have a row. */
  finish(): Promise<void>;
  close(): Promise<void>;
}

/** Where promoted checkpoints live. Only `promote` and `rollback` change what is current. */
export interface CheckpointStore {
  /** Copies a checkpoint folder in, named by its digest. Idempotent. */
  add(folder: string): Promise<{ readonly digest: string; readonly path: string }>;
  current(channel: string): Promise<PromotionEntry | null>;
  history(channel: string): Promise<readonly PromotionEntry[]>;
  promote(channel: string, entry: Omit<PromotionEntry, 'sequence' | 'previous'>): Promise<PromotionEntry>;
  rollback(channel: string): Promise<PromotionEntry>;
}

/** One line of a channel's history: an append-only chain. */
export interface PromotionEntry {
  readonly sequence: number;
  readonly action: 'promote' | 'rollback';
  readonly checkpoint: { readonly id: string; readonly digest: string; readonly path: string };
  /** Digest of the verdict that allowed it; null for the first baseline of a channel. */
  readonly verdictDigest: string | null;
  /** Path of the signed evidence, relative to the store. */
  readonly evidence: string | null;
  /** sha256 of the previous canonical entry, null for the first. */
  readonly previous: string | null;
}
