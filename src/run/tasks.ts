import type {
  Case,
  Completion,
  EpisodeOptions,
  Generate,
  GenerateRequest,
  Model,
  PlayEpisodes,
  ScoreResult,
  Suite,
} from '../contracts/index.ts';
import { isCupelError, requestSeed } from '../kit/index.ts';
import { runErrors } from './errors.ts';
import { isAborted } from './interrupt.ts';
import { renderMessages, renderText } from './prompt.ts';
import { noUsage, type Outcome } from './recorder.ts';

/** One case of one epoch that has no row yet. */
export interface Job {
  readonly item: Case;
  readonly epoch: number;
}

/** How the suite is asked: with its worked examples or without, under its schema or free. */
export interface Variant {
  readonly fewShot: boolean;
  readonly constrained: boolean;
}

/** One completion a case. @param size most requests handed to the engine at once. */
export async function* generateAll(
  suite: Suite,
  jobs: readonly Job[],
  variant: Variant,
  generate: Generate,
  size: number,
  seed: number,
  signal?: AbortSignal,
): AsyncGenerator<Outcome> {
  const { maxTokens, jsonSchema, stop, sampling } = suite.decoding;
  for (const chunk of chunksOf(jobs, size)) {
    const waiting = new Map(chunk.map((job) => [`${job.item.id}@${job.epoch}`, job]));
    const requests = [...waiting].map(([id, job]): GenerateRequest => ({
      id,
      prompt: { messages: renderMessages(suite.prompt, job.item, variant) },
      maxTokens,
      ...(jsonSchema === undefined || !variant.constrained ? {} : { jsonSchema }),
      ...(stop === undefined ? {} : { stop }),
      ...(sampling === undefined ? {} : { sampling: { ...sampling, seed: requestSeed(seed, id) } }),
    }));
    for await (const completion of generate(requests, signal)) {
      const job = waiting.get(completion.id);
      if (job === undefined) throw unasked(completion.id, suite);
      waiting.delete(completion.id);
      yield { ...job, ...fromCompletion(completion) };
    }
    if (isAborted(signal)) return;
    for (const job of waiting.values()) yield { ...job, ...noCompletion('the engine ended without a completion') };
  }
}

/** Log-likelihood of each option after the context. A batch that fails is asked again case by case, to find the bad one. */
export async function* chooseAll(
  suite: Suite,
  jobs: readonly Job[],
  variant: Variant,
  model: Model,
  size: number,
  signal?: AbortSignal,
): AsyncGenerator<Outcome> {
  for (const chunk of chunksOf(jobs, size)) {
    let outcomes: Outcome[];
    try {
      outcomes = await choose(suite, chunk, variant, model, signal);
    } catch (error) {
      if (isAborted(signal)) return;
      outcomes = [];
      for (const job of chunk) {
        outcomes.push(
          ...(await choose(suite, [job], variant, model, signal).catch((cause: unknown) => [
            { ...job, output: null, error: describe(cause), usage: noUsage },
          ])),
        );
        if (isAborted(signal)) return;
      }
      // Nothing works: that is the engine's failure, not that of the cases.
      if (chunk.length > 1 && outcomes.every((outcome) => outcome.error !== undefined)) throw error;
    }
    yield* outcomes;
    if (isAborted(signal)) return;
  }
}

async function choose(
  suite: Suite,
  jobs: readonly Job[],
  variant: Variant,
  model: Model,
  signal?: AbortSignal,
): Promise<Outcome[]> {
  const asked = jobs.map((job) => ({
    job,
    context: renderText(suite.prompt, job.item, variant),
    options: optionsOf(job.item, suite),
  }));
  const results = await model.score(
    asked.flatMap(({ context, options }) => options.map((continuation) => ({ context, continuation }))),
    signal,
  );
  let next = 0;
  return asked.map(({ job, context, options }): Outcome => {
    const mine = results.slice(next, (next += options.length));
    const likelihoods = options.map((_, index) => sumOf(mine[index]));
    if (likelihoods.includes(null)) {
      const message = `the log-likelihood of option ${likelihoods.indexOf(null)} is not a finite number over at least one token`;
      return { ...job, output: null, error: { code: 'CUPEL_RUN_SCORE_INVALID', message }, usage: noUsage };
    }
    const scored = options.map((text, index) => ({
      text,
      logLikelihood: likelihoods[index] ?? 0,
      // As lm-evaluation-harness counts: the option without the white space that divides it from the context.
      characters: Array.from(text.trimStart()).length,
      tokens: mine[index]?.logProbabilities.length ?? 0,
    }));
    const best = scored.reduce((a, b) => (b.logLikelihood > a.logLikelihood ? b : a));
    return {
      ...job,
      output: { text: best.text, options: scored },
      usage: { promptTokens: model.tokenize(context).length, generatedTokens: 0 },
    };
  });
}

function sumOf(result: ScoreResult | undefined): number | null {
  if (result === undefined || result.logProbabilities.length === 0) return null;
  let sum = 0;
  for (const value of result.logProbabilities) sum += value;
  return Number.isFinite(sum) ? sum : null;
}

/** `input.options` of a case. @throws CUPEL_RUN_OPTIONS_INVALID */
export function optionsOf(item: Case, suite: Suite): readonly string[] {
  const options = Object.hasOwn(item.input, 'options') ? item.input['options'] : undefined;
  const valid =
    Array.isArray(options) &&
    options.length >= 2 &&
    options.every((option) => typeof option === 'string' && option.trim() !== '') &&
    new Set(options).size === options.length;
  if (!valid) {
    throw runErrors.CUPEL_RUN_OPTIONS_INVALID({
      message: `input.options is ${JSON.stringify(options)?.slice(0, 80) ?? 'missing'}`,
      where: `${suite.path}: case ${item.id}`,
    });
  }
  return options as string[];
}

/** Episodes, played by the port. */
export async function* playAll(
  suite: Suite,
  jobs: readonly Job[],
  play: PlayEpisodes,
  generate: Generate,
  size: number,
  options: EpisodeOptions,
): AsyncGenerator<Outcome> {
  for (const epoch of new Set(jobs.map((job) => job.epoch))) {
    for (const chunk of chunksOf(
      jobs.filter((job) => job.epoch === epoch),
      size,
    )) {
      const waiting = new Map(chunk.map((job) => [job.item.id, job]));
      for await (const result of play(
        suite,
        chunk.map(({ item }) => item),
        generate,
        { ...options, seed: requestSeed(options.seed ?? 0, `epoch ${epoch}`) },
      )) {
        const job = waiting.get(result.case);
        if (job === undefined) throw unasked(result.case, suite);
        waiting.delete(result.case);
        if (result.output === null || result.error !== undefined) {
          yield {
            ...job,
            output: result.output,
            error: result.error ?? { code: 'CUPEL_RUN_NO_COMPLETION', message: 'the episode has no output' },
            usage: result.usage,
          };
        } else {
          yield { ...job, output: result.output, usage: result.usage };
        }
      }
      if (isAborted(options.signal)) return;
      for (const job of waiting.values()) yield { ...job, ...noCompletion('the episode was not played') };
    }
  }
}

function fromCompletion(completion: Completion): Omit<Outcome, keyof Job> {
  const usage = { promptTokens: completion.usage.promptTokens, generatedTokens: completion.usage.generatedTokens };
  if (completion.finish !== 'error') return { output: { text: completion.text }, usage };
  return {
    output: null,
    error: completion.error ?? { code: 'CUPEL_RUN_NO_COMPLETION', message: 'the engine gave no reason' },
    usage,
  };
}

function noCompletion(message: string): Omit<Outcome, keyof Job> {
  return { output: null, error: { code: 'CUPEL_RUN_NO_COMPLETION', message }, usage: noUsage };
}

function describe(cause: unknown): { code: string; message: string } {
  if (isCupelError(cause)) return { code: cause.code, message: cause.message };
  return {
    code: 'CUPEL_RUN_SCORE_INVALID',
    message: (cause instanceof Error ? cause.message : String(cause)).slice(0, 300),
  };
}

function unasked(id: string, suite: Suite): Error {
  return runErrors.CUPEL_RUN_ENGINE_BROKE_CONTRACT({
    message: `an answer for "${id}", which was not asked or was answered before`,
    where: suite.id,
  });
}

function* chunksOf<T>(items: readonly T[], size: number): Generator<readonly T[]> {
  for (let start = 0; start < items.length; start += size) yield items.slice(start, start + size);
}
