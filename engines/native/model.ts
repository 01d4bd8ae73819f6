import type {
  Completion,
  DecodingConstraint,
  GenerateRequest,
  GenerateStream,
  Learner,
  LearnerOptions,
  LearnerPlan,
  Message,
  Model,
  ModelSettings,
  RenderOptions,
  ScoreRequest,
  ScoreResult,
  StepShape,
} from '../../src/contracts/index.ts';
import { ggufFileOf, isCupelError } from '../../src/kit/index.ts';
import {
  addon,
  settle,
  type CompletionReply,
  type NativeModelHandle,
  type OpenInput,
  type PromptInput,
} from './addon.ts';
import { nativeErrors, toCupelError, unwrap } from './errors.ts';
import { type ModelFacts, readFacts } from './facts.ts';
import { learnerInput, openLearner, planLearner } from './learner.ts';
import { grammarInput, promptInput, scoreInput, templateMessage, templateTool, tokenIds } from './request.ts';

export interface NativeModelOptions {
  readonly path: string;
  readonly digest: Promise<string>;
  readonly engine: string;
  readonly settings: ModelSettings;
  readonly input: OpenInput;
}

/** Opens a checkpoint on threads of its own. @throws every CUPEL_NATIVE_* error of a bad checkpoint. */
export async function openModel(options: NativeModelOptions): Promise<Model> {
  const { NativeModel } = addon();
  let handle: NativeModelHandle | undefined;
  const opening = settle((callback) => {
    handle = unwrap(() => new NativeModel(options.path, options.input, callback));
  });
  // A checkpoint that cannot be opened is refused at once, whatever becomes of its digest.
  options.digest.catch(() => undefined);
  await opening;
  try {
    const open = handle as NativeModelHandle;
    const facts = await readFacts(options.path, (text) => unwrap(() => open.tokenize(text)));
    return new OpenModel(open, options, await options.digest, facts);
  } catch (error) {
    await settle((callback) => (handle as NativeModelHandle).close(callback));
    throw error;
  }
}

class OpenModel implements Model {
  readonly digest: string;
  readonly engine: string;
  readonly contextLength: number;
  readonly vocabularySize: number;
  readonly endOfTurn: number;
  readonly beginOfSequence?: number | null;
  readonly padding?: number | null;
  readonly tiedHead?: boolean;
  readonly settings: ModelSettings;
  readonly #options: NativeModelOptions;
  readonly #handle: NativeModelHandle;
  #closing: Promise<void> | undefined;

  constructor(handle: NativeModelHandle, options: NativeModelOptions, digest: string, facts: ModelFacts) {
    Object.assign(this, facts);
    this.#handle = handle;
    this.#options = options;
    this.digest = digest;
    this.engine = options.engine;
    this.settings = options.settings;
    ({
      contextLength: this.contextLength,
      vocabularySize: this.vocabularySize,
      endOfTurn: this.endOfTurn,
    } = unwrap(() => handle.info()));
  }

  async *generate(
    requests: readonly GenerateRequest[],
    signal?: AbortSignal,
    stream?: GenerateStream,
  ): AsyncIterable<Completion> {
    const handle = this.#open();
    signal?.throwIfAborted();
    const inputs: PromptInput[] = [];
    const ids: string[] = [];
    const ready: Completion[] = [];
    for (const request of requests) {
      try {
        inputs.push(promptInput(request));
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
    const onText = stream?.onText?.bind(stream);
    handle.generate(inputs, onText !== undefined, cancellation, ({ completion, piece, done, error }) => {
      try {
        if (piece) onText?.(ids[piece.index] as string, piece.text);
      } catch (cause) {
        // The listener's own failure ends the call that it listens to.
        thrown ??= cause;
        cancellation.cancel();
      }
      if (completion) ready.push(fromReply(ids[completion.index] as string, completion));
      if (error) thrown ??= toCupelError(error);
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
          signal?.throwIfAborted();
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
      const inputs = requests.map(scoreInput);
      const reply = await settle((callback) => handle.score(inputs, cancellation, callback));
      return reply.scores ?? [];
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  async checkConstraint(constraint: DecodingConstraint): Promise<void> {
    const handle = this.#open();
    const input = grammarInput(constraint, 'constraint');
    await settle((callback) => unwrap(() => handle.check(input, callback)));
  }

  tokenize(text: string): readonly number[] {
    const handle = this.#open();
    return unwrap(() => handle.tokenize(text));
  }

  detokenize(ids: readonly number[]): string {
    const handle = this.#open();
    const checked = tokenIds(ids, 'ids');
    return unwrap(() => handle.detokenize(checked));
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
    return openLearner(await this.#trainable(), learnerInput(options, this.#options.input.threads));
  }

  async planLearner(options: LearnerOptions, shape: StepShape): Promise<LearnerPlan> {
    return planLearner(await this.#trainable(), learnerInput(options, this.#options.input.threads), shape);
  }

  /** The folder that training starts from. */
  async #trainable(): Promise<string> {
    this.#open();
    const file = await ggufFileOf(this.#options.path);
    if (file === null) return this.#options.path;
    throw nativeErrors.CUPEL_NATIVE_REQUEST_INVALID({
      message: 'training starts from a Hugging Face folder with float weights, and this is a GGUF file',
      where: file,
      remedy: 'Train from the checkpoint that the file was written from.',
    });
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
}

function fromReply(id: string, reply: CompletionReply): Completion {
  const { text, finish, promptTokens, cachedTokens, generatedTokens, queueMs, prefillMs, decodeMs } = reply;
  const usage = { promptTokens, cachedTokens, generatedTokens, queueMs, prefillMs, decodeMs };
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
