/**
 * A training loss as pure arithmetic over what the network gives. One step may be computed in parts (micro-batches):
 * losses, gradients and metrics of the parts add up to those of the step, because every part divides by `totals`.
 */
export interface Objective {
  /** Name in records, e.g. `sft`. */
  readonly name: string;
  readonly version: string;
  /**
   * What an example is made of. `answer`: one sequence (of a preference row the chosen one). `pair`: chosen, then
   * rejected. `labelled`: one sequence that is desirable or not.
   */
  readonly sequences: 'answer' | 'pair' | 'labelled';
  /** What the network gives a sequence: a log-probability each labelled token (default), or one reward. */
  readonly head?: 'tokens' | 'reward';
  /** Whether it reads log-probabilities of the model as it was before the first step. */
  readonly reference: boolean;
  /** Whether the tokens of the prompt (after the first) of the first sequence are labelled too. */
  readonly promptLabels?: boolean;
  /** Whether it also reads each prompt with the answer of the next example of the step (KTO), rotated by one. */
  readonly mismatched?: boolean;
  /** The value of an example depends on the others of its step: the loop hands over whole steps, never parts. */
  readonly coupled?: boolean;
  evaluate(part: ObjectivePart): ObjectiveValue;
}

export interface ObjectivePart {
  readonly examples: readonly ObjectiveExample[];
  /** Rows that keep what the base knows; one sequence each. */
  readonly replay: readonly ObjectiveExample[];
  readonly totals: ObjectiveTotals;
}

/** Lists are [sequence][labelled token]; natural logarithm. With the head `reward` each list holds the reward alone. */
export interface ObjectiveExample {
  readonly policy: readonly ArrayLike<number>[];
  readonly reference: readonly ArrayLike<number>[] | null;
  /** Weight of each labelled token in a token loss. */
  readonly weights: readonly ArrayLike<number>[];
  /** How many labelled tokens at the start of each sequence belong to the prompt (with `promptLabels`). */
  readonly promptTokens?: readonly number[];
  /** Of a `labelled` example. */
  readonly desirable?: boolean;
}

/** Over the whole step, known before its first kept forward pass. */
export interface ObjectiveTotals {
  readonly examples: number;
  /** How many examples of a `labelled` step are desirable. */
  readonly desirable?: number;
  /** Sum of label weights: of the first sequences of all examples, of the second, … */
  readonly labelWeights: readonly number[];
  readonly replayLabelWeight: number;
  /** Of each example of the step, in order: log-probabilities of its mismatched answer. */
  readonly mismatched?: readonly { readonly policy: ArrayLike<number>; readonly reference: ArrayLike<number> }[];
}

export interface ObjectiveValue {
  readonly loss: number;
  /** d loss / d policy log-probability (or reward): [example][sequence][token], shaped as the part. */
  readonly gradients: readonly (readonly (readonly number[])[])[];
  readonly replayGradients: readonly (readonly (readonly number[])[])[];
  readonly metrics: Readonly<Record<string, number>>;
}

/** A loss between the next-token distributions of a student and a teacher, at every labelled token. */
export interface DistillationObjective {
  readonly name: string;
  readonly version: string;
  readonly head: 'distribution';
  /** Both softmaxes are taken of logits / temperature. */
  readonly temperature: number;
  /** How many of the teacher's most likely tokens are compared; null: the whole vocabulary. */
  readonly topTokens: number | null;
  evaluate(part: DistillationPart): DistillationValue;
}

export interface DistillationPart {
  /** Numbers compared a token: K. */
  readonly width: number;
  /** Natural-log probabilities, [labelled tokens × K], of the same tokens for both. */
  readonly student: ArrayLike<number>;
  readonly teacher: ArrayLike<number>;
  /** Weight of each labelled token. */
  readonly weights: ArrayLike<number>;
  /** Sum of the weights of the whole step. */
  readonly totalWeight: number;
}

export interface DistillationValue {
  readonly loss: number;
  /** d loss / d student log-probability, [labelled tokens × K]. */
  readonly gradients: Float32Array;
  readonly metrics: Readonly<Record<string, number>>;
}

/** How the loop walks over the data and steps the optimiser. */
export interface Recipe {
  readonly epochs: number;
  /** Stop after so many optimiser steps; null: after the epochs. */
  readonly maxSteps: number | null;
  /** Examples a step. */
  readonly batchSize: number;
  /** Upper bound of tokens in one forward pass; a longer step is computed in parts, with the same result. */
  readonly microBatchTokens: number;
  readonly learningRate: number;
  readonly schedule: Schedule;
  /** Steps, or a share of all steps where below 1. */
  readonly warmupSteps: number;
  readonly weightDecay: number;
  /** 0 = no clipping. */
  readonly maxGradNorm: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** `shuffle`: a new order each epoch from the seed. `file`: as given. */
  readonly order: 'shuffle' | 'file';
  /** Most tokens of a row; null: the context of the model. */
  readonly maxTokens: number | null;
  /** What to do with a row that is longer: refuse, leave it out, cut the start of its prompt, or (documents) cut it into windows. */
  readonly overlong: 'error' | 'drop' | 'left' | 'window';
  /** Number type of the saved weights. */
  readonly dtype: 'f32' | 'bf16';
  /** Every weight, adapters over the base, or adapters over a quantized base. */
  readonly tuning: Tuning;
  readonly compute: 'f32' | 'bf16';
  readonly recompute: boolean;
  /** Checkpoints while training; null: the last alone. */
  readonly checkpoints: {
    readonly everySteps?: number;
    readonly everyTokens?: number;
    /** How many stay on disk beside the best. */
    readonly keep: number;
  } | null;
}

/** Names and arithmetic of transformers.get_scheduler, v5.23. */
export type Schedule =
  | 'constant'
  | 'linear'
  | 'cosine'
  | { readonly kind: 'cosine'; readonly cycles?: number; readonly minimumRatio?: number }
  | { readonly kind: 'cosine-restarts'; readonly cycles?: number }
  | { readonly kind: 'polynomial'; readonly power?: number; readonly end?: number }
  | { readonly kind: 'inverse-sqrt'; readonly timescale?: number }
  | {
      readonly kind: 'wsd';
      readonly decaySteps: number;
      readonly stableSteps?: number;
      readonly decay?: 'linear' | 'cosine' | '1-sqrt';
      readonly cycles?: number;
      readonly minimumRatio?: number;
    };

export type Tuning =
  | { readonly kind: 'full' }
  | {
      readonly kind: 'lora' | 'qlora';
      readonly rank: number;
      readonly alpha: number;
      readonly targets?: readonly string[];
      /** How the frozen base is held: `f32` or `bf16` with lora, `q8_0` or `q4_0` with qlora. */
      readonly base?: 'f32' | 'bf16' | 'q8_0' | 'q4_0';
      /** What is saved: the adapter alone (PEFT), or the merged model. Default `model`. */
      readonly save?: 'model' | 'adapter';
    };
