/** A checkpoint on disk: a Hugging Face folder, a folder with one GGUF file or the file itself, or what another engine opens. */
export interface Checkpoint {
  /** Name in reports, e.g. `base`, `sft`. Unique within a project. */
  readonly id: string;
  /** Absolute path of the folder, or of the file of a checkpoint that is a single one. */
  readonly path: string;
  /** Engine id; without it the first engine that accepts the folder. */
  readonly engine?: string;
}

/** `cupel_run.json` beside the weights: how a trained checkpoint came to be. No clock, no machine. */
export interface TrainingRecord {
  readonly version: 1;
  readonly trainer: string;
  /** Digest of the checkpoint that training started from. */
  readonly parent: string;
  readonly recipeDigest: string;
  readonly dataDigest: string;
  readonly templateDigest: string;
  readonly seed: number;
  readonly steps: number;
  readonly trainedTokens: number;
  /** Last value of each training metric. */
  readonly metrics: Readonly<Record<string, number>>;
  /** Digests of the rows themselves, replayed ones apart; `dataDigest` is over both. */
  readonly data?: { readonly rows: number; readonly digest: string; readonly replay: string | null };
  /** How the weights were trained, and what matrix products were computed in. */
  readonly tuning?: Readonly<Record<string, unknown>>;
  readonly compute?: string;
  /** Version of this program. */
  readonly codeVersion?: string;
  /** Step whose weights these are, where validation chose them, and what it measured. */
  readonly bestStep?: number;
  readonly validation?: { readonly metric: string; readonly value: number };
  /** Of a checkpoint that was merged from others; `parent` is the base. */
  readonly merge?: MergeRecord;
}

export interface MergeRecord {
  readonly method: string;
  /** In the order in which they were given; the base apart. */
  readonly parents: readonly { readonly name: string; readonly digest: string }[];
  /** As merged, with every default filled in. */
  readonly parameters: Readonly<Record<string, unknown>>;
}
