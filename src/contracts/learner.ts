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
  /** Never changes a result. */
  readonly threads?: number;
  /**
   * What matrix products are computed in; sums, moments and the weights that are stepped stay f32. `bf16` is a compute
   * type of its own name: deterministic on one instruction set. Default `f32`.
   */
  readonly compute?: ComputeType;
  /** Low-rank adapters to train over a frozen base; null (default): every weight is trained. */
  readonly adapter?: AdapterOptions | null;
  /** What a frozen base is held as (with `adapter` only). `q8_0` and `q4_0` are QLoRA. Default `f32`. */
  readonly base?: FrozenType;
  /** Keep the input of each layer alone and compute the rest again in the backward pass. Never changes a result. */
  readonly recompute?: boolean;
  /** `reward`: a linear map of the last token's hidden state to one number, instead of the head over tokens. Default `tokens`. */
  readonly head?: 'tokens' | 'reward';
  /** Forward passes alone: no gradients, no moments. For teachers. Default false. */
  readonly frozen?: boolean;
}

export type ComputeType = 'f32' | 'bf16';
export type FrozenType = 'f32' | 'bf16' | 'q8_0' | 'q4_0';

/** LoRA (Hu et al. 2021, arXiv:2106.09685): W + alpha / rank · B A. Names follow PEFT's LoraConfig. */
export interface AdapterOptions {
  readonly rank: number;
  readonly alpha: number;
  /** Last parts of module names, e.g. `q_proj`. Default: the seven projections of a layer. */
  readonly targets?: readonly string[];
  /** Seeds A (uniform, Kaiming, as PEFT); B starts as zero. */
  readonly seed?: number;
  /** PEFT folder to go on from, instead of fresh matrices. Its rank, alpha and targets must be the same. */
  readonly from?: string;
}

/** Shape of the largest part of a step that is computed at once. */
export interface StepShape {
  readonly tokens: number;
  readonly labelledTokens: number;
  readonly longestSequence: number;
}

/** What training would take. */
export interface LearnerPlan {
  readonly parameters: number;
  readonly trainableParameters: number;
  /** Peak resident bytes of the learner: weights, gradients, moments, activations, buffers. */
  readonly memoryBytes: number;
  /** Floating-point operations of forward and backward, a token. */
  readonly operationsPerToken: number;
  /** Estimated from a short measurement of matrix products on this machine. */
  readonly secondsPerToken: number;
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

export interface ForwardOptions {
  /** Activations stay for the next `backward`. Default true. */
  readonly keep?: boolean;
  /** With adapters: false computes the base alone, which is the reference of preference losses. Default true. */
  readonly adapter?: boolean;
}

/** How a trainer reaches compute. Losses are TypeScript; this knows none of them. */
export interface Learner {
  readonly parameterCount: number;
  /** How many of them are trained. */
  readonly trainableCount: number;
  /** Forward pass. Returns the natural-log probability of each labelled token in order of position. */
  logProbabilities(batch: TokenBatch, options?: ForwardOptions): Promise<Float32Array>;
  /**
   * Natural-log probabilities of chosen tokens at the place of each labelled token, of softmax(logits / temperature).
   * `ids` is [labelled × K]; null asks for the whole vocabulary in order of id. Returns [labelled × K].
   */
  distributions(
    batch: TokenBatch,
    ids: Int32Array | null,
    options?: ForwardOptions & { readonly temperature?: number },
  ): Promise<Float32Array>;
  /** The K most likely tokens at the place of each labelled token, most likely first; equal ones by id. [labelled × K] both. */
  topTokens(
    batch: TokenBatch,
    count: number,
    options?: Omit<ForwardOptions, 'keep'> & { readonly temperature?: number },
  ): Promise<{ readonly ids: Int32Array; readonly logProbabilities: Float32Array }>;
  /** One number a sequence, of a learner with the head `reward`. `labelled` is not read. */
  rewards(batch: TokenBatch, options?: ForwardOptions): Promise<Float32Array>;
  /**
   * Adds the gradient of a loss to the accumulated gradients.
   * @param gradients d loss / d each number that the last kept forward pass returned.
   */
  backward(gradients: Float32Array): Promise<void>;
  /** Clips, steps AdamW on the accumulated gradients, clears them. Returns the norm before clipping. */
  step(options: OptimiserStep): Promise<{ readonly gradNorm: number }>;
  /**
   * Writes a checkpoint. `model` (default): a Hugging Face folder that `Engine.open` reads, adapters merged into the
   * base as it was trained on; tokenizer and template are copied from the parent. `adapter`: a PEFT folder.
   */
  save(
    directory: string,
    options?: { readonly dtype?: 'f32' | 'bf16'; readonly form?: 'model' | 'adapter' },
  ): Promise<void>;
  /** What is trained and its optimiser state, for resume: bit-identical continuation. */
  saveState(file: string): Promise<void>;
  loadState(file: string): Promise<void>;
  /** Named tensors as f32, for tests and export. */
  tensor(name: string, which: 'weight' | 'gradient'): Float32Array;
  tensorNames(): readonly string[];
  close(): Promise<void>;
}
