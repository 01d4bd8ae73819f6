import type { Checkpoint } from './checkpoint.ts';
import type { Learner, LearnerOptions } from './learner.ts';
import type { Message, ToolCall, ToolDefinition } from './message.ts';
import type { PluginHead } from './plugin.ts';

/** What an engine can do. What it cannot is refused by name before a run starts. */
export interface EngineCapabilities {
  readonly generate: boolean;
  readonly score: boolean;
  readonly jsonSchema: boolean;
  readonly tools: boolean;
  readonly learn: boolean;
}

/** Opens checkpoints. Stateless: everything that holds memory belongs to the Model. */
export interface Engine extends PluginHead<'engine'> {
  readonly capabilities: EngineCapabilities;
  /** True if this engine can open the folder. Looks at file names and config only. */
  accepts(checkpoint: Checkpoint): Promise<boolean>;
  /** Loads a checkpoint. Fails with a coded error that names file, tensor and value. */
  open(checkpoint: Checkpoint, options?: OpenOptions): Promise<Model>;
}

export interface OpenOptions {
  /** Worker threads of the model. Never changes a result. Default: the engine's choice. */
  readonly threads?: number;
  /** Requests decoded together. Never changes a result. */
  readonly maxBatch?: number;
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

  /**
   * Yields one completion per request, as they finish, each carrying the request's `id`.
   * Texts do not depend on batch, order or neighbours. One bad request yields a completion with
   * `finish: 'error'`; it never fails the others. So does a request that asks for what the engine cannot.
   */
  generate(requests: readonly GenerateRequest[], signal?: AbortSignal): AsyncIterable<Completion>;

  /** Log-likelihoods, in the order of the requests. Shares equal contexts by itself. */
  score(requests: readonly ScoreRequest[], signal?: AbortSignal): Promise<readonly ScoreResult[]>;

  /** Token ids of a text; special tokens in the text are parsed, none are added. */
  tokenize(text: string): readonly number[];
  /** The text of token ids; special tokens are left out. */
  detokenize(ids: readonly number[]): string;
  /** Messages to prompt text through the checkpoint's chat template. */
  render(messages: readonly Message[], options?: RenderOptions): string;

  /** A copy of the weights that can be trained. Only if the engine's `learn` is true. */
  learner?(options: LearnerOptions): Promise<Learner>;

  /** Frees memory. Later calls fail with a coded error. Idempotent. */
  close(): Promise<void>;
}

export interface RenderOptions {
  readonly tools?: readonly ToolDefinition[];
  /** Append what opens the assistant's turn. Default true. */
  readonly addGenerationPrompt?: boolean;
}

export interface GenerateRequest {
  readonly id: string;
  /** Chat messages, rendered by the model's template, or raw text as it stands. */
  readonly prompt:
    { readonly messages: readonly Message[]; readonly tools?: readonly ToolDefinition[] } | { readonly text: string };
  /** Upper bound of generated tokens. */
  readonly maxTokens: number;
  /** JSON Schema (2020-12) that constrains the decoding. */
  readonly jsonSchema?: Readonly<Record<string, unknown>>;
  /** Texts that end the completion; the stop text itself is not part of it. */
  readonly stop?: readonly string[];
  /** Temperature 0 (greedy) is the only sampling of the first form. */
  readonly sampling?: Sampling;
}

export interface Sampling {
  readonly temperature: number;
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
  readonly prefillMs?: number;
  readonly decodeMs?: number;
}

export interface ScoreRequest {
  /** Text before the continuation. Token boundary: tokenize(context) and the rest of tokenize(context + continuation). */
  readonly context: string;
  readonly continuation: string;
}

export interface ScoreResult {
  /** Natural-log probability of each continuation token. */
  readonly logProbabilities: readonly number[];
  /** Whether each token was the arg-max. */
  readonly isGreedy: readonly boolean[];
}
