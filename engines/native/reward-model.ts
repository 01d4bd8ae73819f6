import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type {
  Completion,
  GenerateRequest,
  Learner,
  LearnerOptions,
  LearnerPlan,
  Message,
  Model,
  ModelSettings,
  RenderOptions,
  ScoreResult,
  StepShape,
  TokenBatch,
} from '../../src/contracts/index.ts';
import { addon, settle, type NativeTextHandle } from './addon.ts';
import { nativeErrors, unwrap } from './errors.ts';
import { readFacts, type ModelFacts } from './facts.ts';
import { learnerInput, openLearner, planLearner } from './learner.ts';
import type { NativeModelOptions } from './model.ts';
import { templateMessage, templateTool, tokenIds } from './request.ts';

/** Tokens that are computed together. */
const batchTokens = 4096;

/** Whether a folder holds a model of sequences, by its config.json; what is no such folder is not one. */
export async function isRewardFolder(path: string): Promise<boolean> {
  try {
    const config = JSON.parse(await readFile(join(path, 'config.json'), 'utf8')) as { architectures?: unknown } | null;
    const [name] = Array.isArray(config?.architectures) ? (config.architectures as unknown[]) : [];
    return typeof name === 'string' && name.endsWith('ForSequenceClassification');
  } catch {
    return false;
  }
}

/** Opens a reward model: `score.weight` instead of a head over tokens. Its weights are read when rewards are asked for. */
export async function openRewardModel(options: NativeModelOptions): Promise<Model> {
  const { NativeText } = addon();
  let handle: NativeTextHandle | undefined;
  options.digest.catch(() => undefined);
  await settle((callback) => {
    handle = unwrap(() => new NativeText(options.path, callback));
  });
  const text = handle as NativeTextHandle;
  try {
    const facts = await readFacts(options.path, (words) => unwrap(() => text.tokenize(words)));
    return new RewardModel(text, options, await options.digest, facts);
  } catch (error) {
    await settle((callback) => text.close(callback));
    throw error;
  }
}

class RewardModel implements Model {
  readonly digest: string;
  readonly engine: string;
  readonly contextLength: number;
  readonly vocabularySize: number;
  readonly endOfTurn: number;
  readonly settings: ModelSettings;
  readonly beginOfSequence?: number | null;
  readonly padding?: number | null;
  readonly #options: NativeModelOptions;
  readonly #handle: NativeTextHandle;
  #learner: Promise<Learner> | undefined;
  #closing: Promise<void> | undefined;

  constructor(handle: NativeTextHandle, options: NativeModelOptions, digest: string, facts: ModelFacts) {
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

  async *generate(requests: readonly GenerateRequest[], signal?: AbortSignal): AsyncIterable<Completion> {
    this.#open();
    signal?.throwIfAborted();
    const { code, message } = this.#headless('generates no text');
    for (const { id } of requests) {
      const usage = { promptTokens: 0, cachedTokens: 0, generatedTokens: 0 };
      yield { id, text: '', finish: 'error', error: { code, message }, usage };
    }
  }

  score(): Promise<readonly ScoreResult[]> {
    return Promise.reject(this.#headless('scores no text'));
  }

  async rewards(conversations: readonly (readonly Message[])[]): Promise<readonly number[]> {
    const sequences = conversations.map((messages) =>
      this.tokenize(this.render(messages, { addGenerationPrompt: false })),
    );
    this.#learner ??= openLearner(
      this.#options.path,
      learnerInput({ head: 'reward', frozen: true }, this.#options.input.threads),
    );
    const learner = await this.#learner;
    const rewards: number[] = [];
    for (const part of parts(sequences)) rewards.push(...(await learner.rewards(packed(part), { keep: false })));
    return rewards;
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
    const { tools = [], addGenerationPrompt = true } = options;
    const shown = JSON.stringify(tools.length === 0 ? null : tools.map(templateTool));
    return unwrap(() => handle.render(JSON.stringify(messages.map(templateMessage)), shown, addGenerationPrompt));
  }

  async learner(options: LearnerOptions): Promise<Learner> {
    this.#open();
    return openLearner(this.#options.path, learnerInput(options, this.#options.input.threads));
  }

  async planLearner(options: LearnerOptions, shape: StepShape): Promise<LearnerPlan> {
    this.#open();
    return planLearner(this.#options.path, learnerInput(options, this.#options.input.threads), shape);
  }

  close(): Promise<void> {
    this.#closing ??= (async () => {
      const learner = await this.#learner?.catch(() => undefined);
      await learner?.close();
      await settle((callback) => this.#handle.close(callback));
    })();
    return this.#closing;
  }

  #headless(what: string): Error & { readonly code: string } {
    return nativeErrors.CUPEL_NATIVE_REQUEST_INVALID({
      message: `a checkpoint with a reward head ${what}`,
      where: this.#options.path,
      remedy: 'Ask it for rewards, or open a checkpoint with a head over tokens.',
    });
  }

  #open(): NativeTextHandle {
    if (this.#closing !== undefined) {
      throw nativeErrors.CUPEL_NATIVE_CLOSED({ message: 'the model has been closed', where: this.#options.path });
    }
    return this.#handle;
  }
}

/** Runs of sequences of at most so many tokens, each of at least one sequence. */
function parts(sequences: readonly (readonly number[])[]): (readonly number[])[][] {
  const all: (readonly number[])[][] = [];
  let room = 0;
  for (const sequence of sequences) {
    const last = all.at(-1);
    if (last === undefined || sequence.length > room) {
      all.push([sequence]);
      room = batchTokens - sequence.length;
    } else {
      last.push(sequence);
      room -= sequence.length;
    }
  }
  return all;
}

function packed(sequences: readonly (readonly number[])[]): TokenBatch {
  const offsets = new Int32Array(sequences.length + 1);
  sequences.forEach(({ length }, index) => (offsets[index + 1] = (offsets[index] as number) + length));
  const tokens = Int32Array.from(sequences.flat());
  return { tokens, offsets, labelled: new Uint8Array(tokens.length) };
}
