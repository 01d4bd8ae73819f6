import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { nativeErrors, toCupelError, type Fault } from './errors.ts';

/** What a worker of the addon says; the last reply has `done`. Mirrors crates/node/src/reply.rs. */
export interface Reply {
  readonly done: boolean;
  readonly error?: Fault | null;
  readonly completion?: CompletionReply | null;
  readonly scores?: readonly { readonly logProbabilities: number[]; readonly isGreedy: boolean[] }[] | null;
  readonly floats?: Float32Array | null;
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
}

export type Callback = (reply: Reply) => void;

export interface PromptInput {
  readonly prompt: string;
  readonly maxTokens: number;
  readonly schema?: string;
  readonly stop: readonly string[];
}

export interface NativeCancellation {
  cancel(): void;
}

export interface NativeModelHandle {
  info(): { contextLength: number; vocabularySize: number; endOfTurn: number };
  tokenize(text: string): number[];
  detokenize(ids: readonly number[]): string;
  render(messages: string, tools: string, addGenerationPrompt: boolean): string;
  generate(
    requests: readonly PromptInput[],
    maxBatch: number,
    cancellation: NativeCancellation,
    callback: Callback,
  ): void;
  score(
    requests: readonly { context: string; continuation: string }[],
    cancellation: NativeCancellation,
    callback: Callback,
  ): void;
  close(callback: Callback): void;
}

export interface NativeLearnerHandle {
  parameterCount(): number;
  forward(tokens: Int32Array, offsets: Int32Array, labelled: Uint8Array, keep: boolean, callback: Callback): void;
  backward(gradients: Float32Array, callback: Callback): void;
  step(options: Record<string, number>, callback: Callback): void;
  save(directory: string, dtype: string, callback: Callback): void;
  saveState(file: string, callback: Callback): void;
  loadState(file: string, callback: Callback): void;
  tensorNames(): string[];
  tensor(name: string, gradient: boolean): Float32Array;
  close(callback: Callback): void;
}

export interface Addon {
  readonly Cancellation: new () => NativeCancellation;
  readonly NativeModel: new (directory: string, threads: number, callback: Callback) => NativeModelHandle;
  readonly NativeLearner: new (directory: string, threads: number, callback: Callback) => NativeLearnerHandle;
}

let loaded: Addon | undefined;

/**
 * The compiled addon, loaded on first use, so that listing engines costs nothing.
 * @throws CUPEL_NATIVE_ADDON_MISSING, CUPEL_NATIVE_ADDON_BROKEN
 */
export function addon(file = fileURLToPath(new URL('./cupel-native.node', import.meta.url))): Addon {
  if (loaded !== undefined) return loaded;
  if (!existsSync(file)) {
    throw nativeErrors.CUPEL_NATIVE_ADDON_MISSING({ message: 'cupel-native.node has not been built', where: file });
  }
  try {
    loaded = createRequire(import.meta.url)(file) as Addon;
  } catch (cause) {
    throw nativeErrors.CUPEL_NATIVE_ADDON_BROKEN({ message: (cause as Error).message, where: file, cause });
  }
  return loaded;
}

/** A call that answers once. */
export function settle(start: (callback: Callback) => void): Promise<Reply> {
  return new Promise((resolve, reject) => {
    start((reply) => {
      if (reply.error) reject(toCupelError(reply.error));
      else resolve(reply);
    });
  });
}
