import type {
  Completion,
  GenerateRequest,
  Learner,
  LearnerOptions,
  Message,
  Model,
  RenderOptions,
  ScoreRequest,
  ScoreResult,
  ToolDefinition,
} from '../../src/contracts/index.ts';
import { isCupelError } from '../../src/kit/index.ts';
import { addon, settle, type CompletionReply, type NativeModelHandle, type PromptInput } from './addon.ts';
import { nativeErrors, toCupelError, unwrap } from './errors.ts';
import { openLearner } from './learner.ts';

export interface NativeModelOptions {
  readonly path: string;
  readonly digest: string;
  readonly engine: string;
  readonly threads: number;
  readonly maxBatch: number;
}

/** Opens a checkpoint on a thread of its own. @throws every CUPEL_NATIVE_* error of a bad checkpoint. */
export async function openModel(options: NativeModelOptions): Promise<Model> {
  const { NativeModel } = addon();
  let handle: NativeModelHandle | undefined;
  await settle((callback) => {
    handle = unwrap(() => new NativeModel(options.path, options.threads, callback));
  });
  return new OpenModel(handle as NativeModelHandle, options);
}

class OpenModel implements Model {
  readonly digest: string;
  readonly engine: string;
  readonly contextLength: number;
  readonly vocabularySize: number;
  readonly endOfTurn: number;
  readonly #options: NativeModelOptions;
  readonly #handle: NativeModelHandle;
  #closing: Promise<void> | undefined;

  constructor(handle: NativeModelHandle, options: NativeModelOptions) {
    this.#handle = handle;
    this.#options = options;
    this.digest = options.digest;
    this.engine = options.engine;
    ({
      contextLength: this.contextLength,
      vocabularySize: this.vocabularySize,
      endOfTurn: this.endOfTurn,
    } = unwrap(() => handle.info()));
  }

  async *generate(requests: readonly GenerateRequest[], signal?: AbortSignal): AsyncIterable<Completion> {
    const handle = this.#open();
    signal?.throwIfAborted();
    const inputs: PromptInput[] = [];
    const ids: string[] = [];
    const ready: Completion[] = [];
    for (const request of requests) {
      try {
        inputs.push(this.#prepare(request));
        ids.push(request.id);
      } catch (error) {
        if (!isCupelError(error)) throw error;
        ready.push(failure(request.id, error));
      }
    }
    const cancellation = new (addon().Cancellation)();
    let wake: (() => void) | undefined;
    let ended = false;
    let thrown: unknown;
    let answered = 0;
    handle.generate(inputs, this.#options.maxBatch, cancellation, ({ completion, done, error }) => {
      if (completion) ready.push(fromReply(ids[completion.index] as string, completion));
      if (error) thrown = toCupelError(error);
      ended ||= done;
      wake?.();
    });
    const abort = (): void => cancellation.cancel();
    signal?.addEventListener('abort', abort, { once: true });
    try {
      for (;;) {
        for (let next = ready.shift(); next !== undefined; next = ready.shift()) {
          answered++;
          yield next;
        }
        if (ended) break;
        await new Promise<void>((resolve) => (wake = resolve));
      }
      if (thrown !== undefined) {
        signal?.throwIfAborted();
        throw thrown;
      }
      // Interrupted while it waited for its turn: no answer is no success.
      if (answered < requests.length) signal?.throwIfAborted();
    } finally {
      // A consumer that leaves early also stops the work.
      cancellation.cancel();
      signal?.removeEventListener('abort', abort);
    }
  }

  async score(requests: readonly ScoreRequest[], signal?: AbortSignal): Promise<readonly ScoreResult[]> {
    const handle = this.#open();
    signal?.throwIfAborted();
    const cancellation = new (addon().Cancellation)();
    const abort = (): void => cancellation.cancel();
    signal?.addEventListener('abort', abort, { once: true });
    try {
      const inputs = requests.map(({ context, continuation }) => ({ context, continuation }));
      const reply = await settle((callback) => handle.score(inputs, cancellation, callback));
      return reply.scores ?? [];
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  tokenize(text: string): readonly number[] {
    const handle = this.#open();
    return unwrap(() => handle.tokenize(text));
  }

  detokenize(ids: readonly number[]): string {
    const handle = this.#open();
    return unwrap(() => handle.detokenize(ids));
  }

  render(messages: readonly Message[], options: RenderOptions = {}): string {
    const handle = this.#open();
    const tools = options.tools === undefined || options.tools.length === 0 ? null : options.tools.map(templateTool);
    return unwrap(() =>
      handle.render(
        JSON.stringify(messages.map(templateMessage)),
        JSON.stringify(tools),
        options.addGenerationPrompt ?? true,
      ),
    );
  }

  async learner(options: LearnerOptions): Promise<Learner> {
    this.#open();
    return openLearner(this.#options.path, options.threads ?? this.#options.threads);
  }

  close(): Promise<void> {
    this.#closing ??= settle((callback) => this.#handle.close(callback)).then(() => undefined);
    return this.#closing;
  }

  #open(): NativeModelHandle {
    if (this.#closing !== undefined) {
      throw nativeErrors.CUPEL_NATIVE_CLOSED({ message: 'the model has been closed', where: this.#options.path });
    }
    return this.#handle;
  }

  #prepare(request: GenerateRequest): PromptInput {
    const { prompt, maxTokens, sampling, jsonSchema, stop = [] } = request;
    if (sampling !== undefined && sampling.temperature !== 0) {
      throw nativeErrors.CUPEL_NATIVE_SAMPLING_UNSUPPORTED({
        message: `temperature is ${sampling.temperature}`,
        where: `${request.id}: sampling.temperature`,
      });
    }
    if (!Number.isSafeInteger(maxTokens) || maxTokens < 1 || maxTokens > 2 ** 31) {
      throw nativeErrors.CUPEL_NATIVE_REQUEST_INVALID({
        message: `maxTokens is ${maxTokens}; a whole number from 1 was expected`,
        where: `${request.id}: maxTokens`,
      });
    }
    if ('messages' in prompt && prompt.tools !== undefined && prompt.tools.length > 0) {
      throw nativeErrors.CUPEL_NATIVE_TOOLS_UNSUPPORTED({
        message: `${prompt.tools.length} tools were given`,
        where: `${request.id}: prompt.tools`,
      });
    }
    return {
      prompt: 'text' in prompt ? prompt.text : this.render(prompt.messages),
      maxTokens,
      stop,
      // Not canonical JSON: the order of the properties is the order of the keys in the completion.
      ...(jsonSchema === undefined ? {} : { schema: JSON.stringify(jsonSchema) }),
    };
  }
}

function fromReply(id: string, reply: CompletionReply): Completion {
  const { text, finish, promptTokens, cachedTokens, generatedTokens } = reply;
  const usage = { promptTokens, cachedTokens, generatedTokens };
  if (!reply.error) return { id, text, finish, usage };
  const { code, message } = toCupelError(reply.error);
  return { id, text, finish: 'error', error: { code, message }, usage };
}

function failure(id: string, error: { code: string; message: string }): Completion {
  const { code, message } = error;
  return {
    id,
    text: '',
    finish: 'error',
    error: { code, message },
    usage: { promptTokens: 0, cachedTokens: 0, generatedTokens: 0 },
  };
}

/** A message as the chat templates of Hugging Face models read it. */
function templateMessage(message: Message): Record<string, unknown> {
  const { role, content, name, toolCalls } = message;
  return {
    role,
    content,
    ...(name === undefined ? {} : { name }),
    ...(toolCalls === undefined || toolCalls.length === 0
      ? {}
      : {
          tool_calls: toolCalls.map((call) => ({
            id: call.id,
            type: 'function',
            function: { name: call.name, arguments: call.arguments },
          })),
        }),
  };
}

function templateTool(tool: ToolDefinition): Record<string, unknown> {
  return {
    type: 'function',
    function: { name: tool.name, description: tool.description, parameters: tool.parameters },
  };
}
