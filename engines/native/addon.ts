import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Comparison, LearnerPlan, StepShape } from '../../src/contracts/index.ts';
import { packageRoot } from '../../src/kit/index.ts';
import { nativeErrors, toCupelError, type Fault } from './errors.ts';
import { prebuiltAddon, prebuiltName } from './prebuilt.ts';

/** What a worker of the addon says; the last reply has `done`. Mirrors crates/node/src/reply.rs. */
export interface Reply {
  readonly done: boolean;
  readonly error?: Fault | null;
  readonly completion?: CompletionReply | null;
  readonly piece?: { readonly index: number; readonly text: string } | null;
  readonly scores?: readonly { readonly logProbabilities: number[]; readonly isGreedy: boolean[] }[] | null;
  readonly comparisons?: readonly Comparison[] | null;
  readonly written?: WrittenReply | null;
  readonly progress?: number | null;
  readonly floats?: Float32Array | null;
  readonly ids?: Int32Array | null;
  readonly plan?: LearnerPlan | null;
  readonly number?: number | null;
}

export interface CompletionReply {
  readonly index: number;
  readonly text: string;
  readonly finish: 'stop' | 'length' | 'error';
  readonly error?: Fault | null;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly generatedTokens: number;
  readonly queueMs: number;
  readonly prefillMs: number;
  readonly decodeMs: number;
}

/** What was written. Mirrors crates/node/src/quantize.rs. */
export interface WrittenReply {
  readonly bytes: number;
  readonly parameters: number;
  readonly types: readonly { readonly kind: string; readonly tensors: number; readonly relativeError: number }[];
}

export type Callback = (reply: Reply) => void;

/** Mirrors crates/node/src/input.rs. */
export interface OpenInput {
  readonly threads: number;
  readonly maxBatch: number;
  readonly weights?: string;
  readonly kvCache?: string;
  readonly kvCacheBytes?: number;
  readonly stepTokens?: number;
  readonly adapters?: readonly { readonly name: string; readonly path: string }[];
}

/** At most one of them. */
export interface GrammarInput {
  readonly schema?: string;
  readonly regex?: string;
  readonly lark?: string;
}

/** One of `text`, `ids` and `messages`. */
export interface PromptInput {
  readonly text?: string;
  readonly ids?: readonly number[];
  readonly messages?: string;
  readonly maxTokens: number;
  readonly grammar: GrammarInput;
  readonly stop: readonly string[];
  readonly sampling?: SamplingInput;
  readonly adapter?: string;
}

export interface SamplingInput {
  readonly temperature: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly repetitionPenalty?: number;
  readonly presencePenalty?: number;
  readonly frequencyPenalty?: number;
  readonly logitBias?: readonly { readonly token: number; readonly bias: number }[];
  readonly seed?: number;
}

/** Both texts, or both lists of ids. */
export interface ScoreInput {
  readonly context?: string;
  readonly continuation?: string;
  readonly contextIds?: readonly number[];
  readonly continuationIds?: readonly number[];
  readonly adapter?: string;
}

export interface NativeCancellation {
  cancel(): void;
}

export interface NativeModelHandle {
  info(): {
    contextLength: number;
    vocabularySize: number;
    endOfTurn: number;
    kvCache: string;
    weightBytes: number;
  };
  tokenize(text: string): number[];
  detokenize(ids: readonly number[]): string;
  render(messages: string, tools: string, addGenerationPrompt: boolean): string;
  generate(
    prompts: readonly PromptInput[],
    stream: boolean,
    cancellation: NativeCancellation,
    callback: Callback,
  ): void;
  score(pairs: readonly ScoreInput[], cancellation: NativeCancellation, callback: Callback): void;
  check(grammar: GrammarInput, callback: Callback): void;
  close(callback: Callback): void;
}

/** Mirrors crates/node/src/learner.rs. */
export interface LearnerInput {
  readonly threads: number;
  readonly compute?: string;
  readonly adapter?: {
    readonly rank: number;
    readonly alpha: number;
    readonly targets?: readonly string[];
    readonly seed?: number;
    readonly from?: string;
  };
  readonly base?: string;
  readonly recompute?: boolean;
  readonly head?: string;
  readonly frozen?: boolean;
}

/** A packed batch and how it is computed. */
export interface BatchInput {
  readonly tokens: Int32Array;
  readonly offsets: Int32Array;
  readonly labelled: Uint8Array;
  readonly keep: boolean;
  readonly adapter: boolean;
  readonly temperature: number;
}

export interface NativeLearnerHandle {
  parameterCount(): number;
  trainableCount(): number;
  forward(batch: BatchInput, callback: Callback): void;
  distributions(batch: BatchInput, ids: Int32Array | null, callback: Callback): void;
  topTokens(batch: BatchInput, count: number, callback: Callback): void;
  rewards(batch: BatchInput, callback: Callback): void;
  backward(gradients: Float32Array, callback: Callback): void;
  step(options: Record<string, number>, callback: Callback): void;
  save(directory: string, dtype: string, form: string, callback: Callback): void;
  saveState(file: string, callback: Callback): void;
  loadState(file: string, callback: Callback): void;
  tensorNames(): string[];
  tensor(name: string, gradient: boolean): Float32Array;
  close(callback: Callback): void;
}

/** The text files of a checkpoint alone. */
export interface NativeTextHandle {
  info(): { contextLength: number; vocabularySize: number; endOfTurn: number };
  tokenize(text: string): number[];
  detokenize(ids: readonly number[]): string;
  render(messages: string, tools: string, addGenerationPrompt: boolean): string;
  close(callback: Callback): void;
}

export interface Addon {
  readonly NativeText: new (directory: string, callback: Callback) => NativeTextHandle;
  readonly Cancellation: new () => NativeCancellation;
  readonly NativeModel: new (path: string, options: OpenInput, callback: Callback) => NativeModelHandle;
  readonly NativeLearner: new (directory: string, input: LearnerInput, callback: Callback) => NativeLearnerHandle;
  compare(
    models: readonly { readonly path: string; readonly options: OpenInput }[],
    text: string,
    window: number,
    cancellation: NativeCancellation,
    callback: Callback,
  ): void;
  planLearner(directory: string, input: LearnerInput, shape: StepShape, callback: Callback): void;
  quantize(
    input: {
      readonly source: string;
      readonly target: string;
      readonly kind: string;
      readonly pre?: string;
      readonly threads: number;
    },
    callback: Callback,
  ): void;
  tokenizeWith(path: string, texts: readonly string[], parseSpecial: boolean): number[][];
}

let loaded: Addon | undefined;

/**
 * The compiled addon, loaded on first use, so that listing engines costs nothing: the one that was built here, else
 * the prebuilt package of this platform.
 * @throws CUPEL_NATIVE_ADDON_MISSING, CUPEL_NATIVE_ADDON_BROKEN
 */
export function addon(file = fileURLToPath(new URL('./cupel-native.node', import.meta.url))): Addon {
  if (loaded !== undefined) return loaded;
  const require = createRequire(import.meta.url);
  const path = existsSync(file) ? file : prebuiltAddon(require.resolve, version());
  if (path === null) {
    throw nativeErrors.CUPEL_NATIVE_ADDON_MISSING({
      message: `cupel-native.node has not been built, and the package ${prebuiltName() ?? `of ${process.platform} ${process.arch}`} is not installed`,
      where: file,
    });
  }
  try {
    loaded = require(path) as Addon;
  } catch (cause) {
    throw nativeErrors.CUPEL_NATIVE_ADDON_BROKEN({ message: (cause as Error).message, where: path, cause });
  }
  return loaded;
}

function version(): string {
  return (JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string }).version;
}

/** A call that answers once, after what it tells of its progress. */
export function settle(start: (callback: Callback) => void, onProgress?: (share: number) => void): Promise<Reply> {
  return new Promise((resolve, reject) => {
    start((reply) => {
      if (reply.error) reject(toCupelError(reply.error));
      else if (reply.done) resolve(reply);
      else if (typeof reply.progress === 'number') onProgress?.(reply.progress);
    });
  });
}
