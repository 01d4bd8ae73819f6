/** Packed batch without padding: sequences one after another with cumulative lengths. */
export interface TokenBatch {
  /** All token ids, length `offsets[offsets.length - 1]`. */
  readonly tokens: Int32Array;
  /** Cumulative lengths, starts with 0: sequence i is tokens[offsets[i] .. offsets[i + 1]). */
  readonly offsets: Int32Array;
  /**
   * 1 where the log-probability of this token given its predecessors in the same sequence is wanted.
   * The first token of a sequence can not be labelled.
   */
  readonly labelled: Uint8Array;
}

export interface LearnerOptions {
  readonly threads?: number;
}

/** One AdamW step. Source: Loshchilov & Hutter 2019 (decoupled weight decay), as torch.optim.AdamW. */
export interface OptimiserStep {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Not applied to norms and biases. */
  readonly weightDecay: number;
  /** Global gradient norm is clipped to this; 0 = no clipping. */
  readonly maxGradNorm: number;
}

/** How a trainer reaches compute. Losses are TypeScript; this knows none of them. */
export interface Learner {
  readonly parameterCount: number;
  /**
   * Forward pass. Returns the natural-log probability of each labelled token in order of position.
   * With `keep: true` (default) activations stay for the next `backward`.
   */
  logProbabilities(batch: TokenBatch, options?: { readonly keep?: boolean }): Promise<Float32Array>;
  /**
   * Adds the gradient of a loss to the accumulated gradients.
   * @param gradients d loss / d log-probability of each labelled token of the last kept forward pass.
   */
  backward(gradients: Float32Array): Promise<void>;
  /** Clips, steps AdamW on the accumulated gradients, clears them. Returns the norm before clipping. */
  step(options: OptimiserStep): Promise<{ readonly gradNorm: number }>;
  /** Writes a Hugging Face folder that `Engine.open` reads; tokenizer and template are copied from the parent. */
  save(directory: string, options?: { readonly dtype?: 'f32' | 'bf16' }): Promise<void>;
  /** Optimiser state, for resume: bit-identical continuation. */
  saveState(file: string): Promise<void>;
  loadState(file: string): Promise<void>;
  /** Named tensors as f32, for tests and export. */
  tensor(name: string, which: 'weight' | 'gradient'): Float32Array;
  tensorNames(): readonly string[];
  close(): Promise<void>;
}
