import type { Checkpoint } from './checkpoint.ts';
import type { Learner, LearnerOptions, LearnerPlan, StepShape } from './learner.ts';
import type { Message, ToolCall, ToolDefinition } from './message.ts';
import type { PluginHead } from './plugin.ts';

/** What an engine can do. What it cannot is refused by name before a run starts. */
export interface EngineCapabilities {
  readonly generate: boolean;
  readonly score: boolean;
  readonly jsonSchema: boolean;
  readonly tools: boolean;
  readonly learn: boolean;
  /** Sampling with a temperature above 0, penalties and biases. */
  readonly sampling: boolean;
  /** Decoding held to a regular expression or a Lark grammar. */
  readonly grammar: boolean;
  /** LoRA adapters beside the checkpoint, chosen by each request. */
  readonly adapters: boolean;
}

/** Opens checkpoints. Stateless: everything that holds memory belongs to the Model. */
export interface Engine extends PluginHead<'engine'> {
  readonly capabilities: EngineCapabilities;
  /** True if this engine can open the folder, or the single file. Looks at file names and config only. */
  accepts(checkpoint: Checkpoint): Promise<boolean>;
  /** Loads a checkpoint. Fails with a coded error that names file, tensor and value. */
  open(checkpoint: Checkpoint, options?: OpenOptions): Promise<Model>;
  /** Writes a checkpoint in another type. Only where the engine can. Equal input gives equal bytes. */
  quantize?(checkpoint: Checkpoint, target: QuantizeTarget): Promise<QuantizeReport>;
  /** What models make of a text beside a reference, in distributions over every token. Only where the engine can. */
  compare?(options: CompareOptions): Promise<readonly Comparison[]>;
}

export interface QuantizeTarget {
  /** Absolute path of the file, or of the folder, that is written. */
  readonly path: string;
  /** Names of the engine: a GGUF type (`q8_0`, `q4_k`, …) or one of its own. */
  readonly type: string;
  /** How text is cut before it is tokenized, by llama.cpp's name, where the engine cannot tell. */
  readonly preTokenizer?: string;
  readonly threads?: number;
}

export interface QuantizeReport {
  /** Bytes of the weights on disk. */
  readonly bytes: number;
  readonly parameters: number;
  /** By type: rows that a type does not fit are written in a wider one. */
  readonly types: readonly {
    readonly type: string;
    readonly tensors: number;
    /** Largest root mean square error of a tensor, over its root mean square. */
    readonly relativeError: number;
  }[];
}

export interface CompareOptions {
  /** What the others are compared with. */
  readonly reference: ComparedModel;
  readonly candidates: readonly ComparedModel[];
  readonly text: string;
  /** Tokens read at once: each is predicted from those before it in its window, the first of a window not at all. */
  readonly window: number;
  readonly threads?: number;
  readonly signal?: AbortSignal;
  /** Share of the work that is done, from 0 to 1. */
  onProgress?(share: number): void;
}

export interface ComparedModel {
  /** Absolute path of a checkpoint. */
  readonly path: string;
  readonly weights?: WeightType;
  readonly kvCache?: CacheType;
}

/** What a model makes of a text. */
export interface Comparison {
  /** Tokens that were predicted. */
  readonly tokens: number;
  /** exp of the mean negative log-likelihood. */
  readonly perplexity: number;
  /** Kullback-Leibler divergence from the reference in nats, mean over the tokens and largest. */
  readonly meanDivergence: number;
  readonly maxDivergence: number;
  /** What 99 of 100 tokens do not exceed. */
  readonly divergence99: number;
  /** Share of tokens at which both models have the same most likely token. */
  readonly top1Agreement: number;
  readonly kvCache: string;
  /** Bytes that the weights take in memory. */
  readonly weightBytes: number;
}

export interface OpenOptions {
  /** Worker threads of the model. Never changes a result. Default: the engine's choice. */
  readonly threads?: number;
  /** Requests decoded together. Never changes a result. */
  readonly maxBatch?: number;
  /** What matrices are held as and multiplied in. Default `as-stored`. Changes results: see `Model.settings`. */
  readonly weights?: WeightType;
  /** What keys and values of past tokens are held as. Default: the engine's choice. Changes results: see `Model.settings`. */
  readonly kvCache?: CacheType;
  /** Most bytes for keys and values of all requests together; requests beyond it wait. Never changes a result. */
  readonly kvCacheBytes?: number;
  /** Most tokens read in one step; longer prompts are read in pieces. Never changes a result. */
  readonly stepTokens?: number;
  /** LoRA adapters by name: absolute paths of PEFT folders. Requests name the one they want. */
  readonly adapters?: Readonly<Record<string, string>>;
}

/**
 * `w8a8`: 8-bit weights with a scale an output row, activations with a scale a token. `bf16`: weights and activations
 * rounded to bf16 and summed as matrix tiles of the processor do; never chosen unasked.
 */
export type WeightType = 'as-stored' | 'f32' | 'q8_0' | 'w8a8' | 'bf16';
export type CacheType = 'f32' | 'f16' | 'q8_0';

/** As asked for. `default` is decided by the engine's version and the checkpoint, which a run names too. */
export interface ModelSettings {
  readonly weights: WeightType;
  readonly kvCache: CacheType | 'default';
}

export interface Model {
  /** Content digest of the checkpoint as opened: `sha256:<hex>`. */
  readonly digest: string;
  /** Engine id and version, e.g. `native@0.1.0`. */
  readonly engine: string;
  /** Prompt and completion together, in tokens. */
  readonly contextLength: number;
  readonly vocabularySize: number;
  /** Id of the token that ends an assistant turn (the trained end of sequence). */
  readonly endOfTurn: number;
  /** Id of the token that opens a sequence; null: the checkpoint has none. Absent: the engine can not tell. */
  readonly beginOfSequence?: number | null;
  /** Id of the token that fills batches elsewhere; null: the checkpoint has none. Absent: the engine can not tell. */
  readonly padding?: number | null;
  /** Whether the head over tokens is the embedding. Absent: the engine can not tell. */
  readonly tiedHead?: boolean;
  /** What it was opened with that can change a result; enters the identity of a run. Absent: the engine has no such choice. */
  readonly settings?: ModelSettings;

  /**
   * Yields one completion per request, as they finish, each carrying the request's `id`.
   * Texts do not depend on batch, order or neighbours. One bad request yields a completion with
   * `finish: 'error'`; it never fails the others. So does a request that asks for what the engine cannot.
   * Calls may overlap: their requests are decoded together.
   */
  generate(
    requests: readonly GenerateRequest[],
    signal?: AbortSignal,
    stream?: GenerateStream,
  ): AsyncIterable<Completion>;

  /** Log-likelihoods, in the order of the requests. Shares equal contexts by itself. */
  score(requests: readonly ScoreRequest[], signal?: AbortSignal): Promise<readonly ScoreResult[]>;

  /**
   * Refuses what decoding cannot be held to, by the name of what cannot be enforced, before the first request asks for
   * it. Absent: requests are refused one by one.
   */
  checkConstraint?(constraint: DecodingConstraint): Promise<void>;

  /** Token ids of a text; special tokens in the text are parsed, none are added. */
  tokenize(text: string): readonly number[];
  /** The text of token ids; special tokens are left out. */
  detokenize(ids: readonly number[]): string;
  /** Messages to prompt text through the checkpoint's chat template. */
  render(messages: readonly Message[], options?: RenderOptions): string;

  /**
   * One number a conversation, larger for a better one: of a checkpoint with a reward head, which neither generates nor
   * scores. Absent: the checkpoint has none.
   */
  rewards?(conversations: readonly (readonly Message[])[]): Promise<readonly number[]>;

  /** A copy of the weights that can be trained. Only if the engine's `learn` is true. */
  learner?(options: LearnerOptions): Promise<Learner>;
  /** What such a learner would take for steps of this shape. Opens nothing, takes no memory. */
  planLearner?(options: LearnerOptions, shape: StepShape): Promise<LearnerPlan>;

  /** Frees memory. Later calls fail with a coded error. Idempotent. */
  close(): Promise<void>;
}

export interface RenderOptions {
  readonly tools?: readonly ToolDefinition[];
  /** Append what opens the assistant's turn. Default true. */
  readonly addGenerationPrompt?: boolean;
}

/** Told what comes while it comes. */
export interface GenerateStream {
  /**
   * A further piece of the text of request `id`: whole characters, never a part of a stop text. All pieces of a request
   * together are its completion's text. An engine that cannot stream gives the whole text at once, or nothing.
   */
  onText?(id: string, piece: string): void;
}

/** What a completion must be. At most one of both. */
export interface DecodingConstraint {
  /** JSON Schema (2020-12). */
  readonly jsonSchema?: Readonly<Record<string, unknown>>;
  /** Regular expression that the whole completion matches, or grammar in Lark's syntax. */
  readonly grammar?: { readonly regex: string } | { readonly lark: string };
}

export interface GenerateRequest extends DecodingConstraint {
  readonly id: string;
  /** Chat messages, rendered by the model's template, raw text as it stands, or token ids. */
  readonly prompt:
    | { readonly messages: readonly Message[]; readonly tools?: readonly ToolDefinition[] }
    | { readonly text: string }
    | { readonly ids: readonly number[] };
  /** Upper bound of generated tokens. */
  readonly maxTokens: number;
  /** Texts that end the completion; the stop text itself is not part of it. */
  readonly stop?: readonly string[];
  /** Default: greedy. */
  readonly sampling?: Sampling;
  /** Name of one of the adapters that the model was opened with. Default: none. */
  readonly adapter?: string;
}

/** How the next token is chosen. Penalties and biases come first, then the temperature, then top-k, top-p and min-p. */
export interface Sampling {
  /** 0: greedy, the lowest id wins a tie. From 0 to 100. */
  readonly temperature: number;
  /** Keep the k likeliest tokens. From 1; default: all. */
  readonly topK?: number;
  /** Keep the likeliest tokens that together reach this probability. Above 0 to 1; default 1. */
  readonly topP?: number;
  /** Drop tokens less likely than this share of the likeliest. From 0 to 1; default 0. */
  readonly minP?: number;
  /** Divides positive and multiplies negative logits of tokens of prompt and completion. Above 0; default 1. */
  readonly repetitionPenalty?: number;
  /** Subtracted once from the logit of a generated token. Default 0. */
  readonly presencePenalty?: number;
  /** Subtracted from the logit of a generated token as often as it was generated. Default 0. */
  readonly frequencyPenalty?: number;
  /** Added to logits, by token id. */
  readonly logitBias?: Readonly<Record<number, number>>;
  /** Whole number from 0. The same request with the same seed gives the same text, whatever runs beside it. Default 0. */
  readonly seed?: number;
}

export type FinishReason = 'stop' | 'length' | 'error';

export interface Completion {
  readonly id: string;
  readonly text: string;
  readonly toolCalls?: readonly ToolCall[];
  readonly finish: FinishReason;
  /** Set with `finish: 'error'`. */
  readonly error?: { readonly code: string; readonly message: string };
  readonly usage: Usage;
}

/** Token counts are exact and deterministic; milliseconds are measured and never enter canonical rows. */
export interface Usage {
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly generatedTokens: number;
  /** From the call to the first step that read the prompt. */
  readonly queueMs?: number;
  /** From then to the first generated token. */
  readonly prefillMs?: number;
  /** From then to the end. */
  readonly decodeMs?: number;
}

export type ScoreRequest = (TextScoreRequest | TokenScoreRequest) & {
  /** Name of one of the adapters that the model was opened with. Default: none. */
  readonly adapter?: string;
};

export interface TextScoreRequest {
  /** Text before the continuation. Token boundary: tokenize(context) and the rest of tokenize(context + continuation). */
  readonly context: string;
  readonly continuation: string;
}

export interface TokenScoreRequest {
  /** At least one token: the first of the continuation is predicted from it. */
  readonly contextIds: readonly number[];
  readonly continuationIds: readonly number[];
}

export interface ScoreResult {
  /** Natural-log probability of each continuation token. */
  readonly logProbabilities: readonly number[];
  /** Whether each token was the arg-max. */
  readonly isGreedy: readonly boolean[];
}
