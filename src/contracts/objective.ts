/**
 * A training loss as pure arithmetic over log-probabilities. One step may be computed in parts (micro-batches):
 * losses, gradients and metrics of the parts add up to those of the step, because every part divides by `totals`.
 */
export interface Objective {
  /** Name in records, e.g. `sft`. */
  readonly name: string;
  readonly version: string;
  /** `answer`: one sequence an example (the answer; of a preference row the chosen one). `pair`: chosen, then rejected. */
  readonly sequences: 'answer' | 'pair';
  /** Whether it reads log-probabilities of the model as it was before the first step. */
  readonly reference: boolean;
  evaluate(part: ObjectivePart): ObjectiveValue;
}

export interface ObjectivePart {
  readonly examples: readonly ObjectiveExample[];
  /** Rows that keep what the base knows; one sequence each. */
  readonly replay: readonly ObjectiveExample[];
  readonly totals: ObjectiveTotals;
}

/** Lists are [sequence][labelled token]; natural logarithm. */
export interface ObjectiveExample {
  readonly policy: readonly ArrayLike<number>[];
  readonly reference: readonly ArrayLike<number>[] | null;
  /** Weight of each labelled token in a token loss. */
  readonly weights: readonly ArrayLike<number>[];
}

/** Over the whole step, known before its first forward pass. */
export interface ObjectiveTotals {
  readonly examples: number;
  /** Sum of label weights: of the first sequences of all examples, of the second, … */
  readonly labelWeights: readonly number[];
  readonly replayLabelWeight: number;
}

export interface ObjectiveValue {
  readonly loss: number;
  /** d loss / d policy log-probability: [example][sequence][token], shaped as the part. */
  readonly gradients: readonly (readonly (readonly number[])[])[];
  readonly replayGradients: readonly (readonly (readonly number[])[])[];
  readonly metrics: Readonly<Record<string, number>>;
}

/** How the loop walks over the data and steps the optimiser. */
export interface Recipe {
  readonly epochs: number;
  /** Examples a step. */
  readonly batchSize: number;
  /** Upper bound of tokens in one forward pass; a longer step is computed in parts, with the same result. */
  readonly microBatchTokens: number;
  readonly learningRate: number;
  readonly schedule: 'constant' | 'linear' | 'cosine';
  readonly warmupSteps: number;
  readonly weightDecay: number;
  /** 0 = no clipping. */
  readonly maxGradNorm: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** `shuffle`: a new order each epoch from the seed. `file`: as given. */
  readonly order: 'shuffle' | 'file';
  /** What to do with a row that is longer than the context. */
  readonly overlong: 'error' | 'drop';
  /** Number type of the saved weights. */
  readonly dtype: 'f32' | 'bf16';
}
