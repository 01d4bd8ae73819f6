import type { Completion, GenerateRequest, Model, ScoreRequest, TextScoreRequest } from '../../src/contracts/index.ts';
import { Random, sha256 } from '../../src/kit/index.ts';

export interface EchoOptions {
  /** Completions come in an order shuffled by this seed; null: as asked. */
  readonly order?: number | null;
  /** Called before each completion, e.g. to abort or to wait. */
  readonly before?: (index: number) => Promise<void> | void;
  /** Ids that fail. */
  readonly failing?: readonly string[];
  /** Ids that are never answered. */
  readonly silent?: readonly string[];
  /** Runs score texts, never token ids. */
  readonly score?: (request: TextScoreRequest) => readonly number[];
}

/** A model that says its last message in capitals; a deterministic input device of the tests. Counts what it was asked. */
export function echoModel(options: EchoOptions = {}): Model & { readonly asked: GenerateRequest[]; scored: number } {
  const asked: GenerateRequest[] = [];
  const answer = (request: GenerateRequest): Completion => {
    const { prompt } = request;
    const text =
      'messages' in prompt
        ? (prompt.messages.at(-1)?.content ?? '')
        : 'text' in prompt
          ? prompt.text
          : Buffer.from(prompt.ids).toString();
    const usage = {
      promptTokens: text.length,
      cachedTokens: 0,
      generatedTokens: text.length,
      decodeMs: performance.now(),
    };
    if (options.failing?.includes(request.id) === true)
      return {
        id: request.id,
        text: '',
        finish: 'error',
        error: { code: 'CUPEL_ECHO_FAILED', message: `no answer to ${text}` },
        usage: { ...usage, generatedTokens: 0 },
      };
    return { id: request.id, text: text.toUpperCase(), finish: 'stop', usage };
  };
  const model = {
    asked,
    scored: 0,
    digest: `sha256:${sha256('echo')}`,
    engine: 'echo@1.0.0',
    contextLength: 256,
    vocabularySize: 256,
    endOfTurn: 0,
    async *generate(requests: readonly GenerateRequest[], signal?: AbortSignal): AsyncIterable<Completion> {
      asked.push(...requests);
      const order =
        options.order === undefined || options.order === null
          ? [...requests]
          : new Random(options.order, 'echo').shuffle(requests);
      for (const [index, request] of order.entries()) {
        await options.before?.(index);
        if (signal?.aborted === true) {
          yield {
            ...answer(request),
            text: '',
            finish: 'error',
            error: { code: 'CUPEL_ECHO_ABORTED', message: 'aborted' },
          };
          return;
        }
        if (options.silent?.includes(request.id) !== true) yield answer(request);
      }
    },
    async score(requests: readonly ScoreRequest[]) {
      model.scored += requests.length;
      return requests.map((request) => {
        if (!('context' in request)) throw new Error('token ids were not expected');
        const logProbabilities =
          options.score?.(request) ??
          Array.from(request.continuation).map(
            (_, index) => -((sha256(request.context + request.continuation).charCodeAt(index % 64) % 16) + 1) / 8,
          );
        return { logProbabilities, isGreedy: logProbabilities.map(() => false) };
      });
    },
    tokenize: (text: string) => [...Buffer.from(text)],
    detokenize: (ids: readonly number[]) => Buffer.from(ids).toString(),
    render: (messages: readonly { readonly content: string }[]) => messages.map(({ content }) => content).join(''),
    async close() {},
  };
  return model;
}

export const canEverything = {
  generate: true,
  score: true,
  jsonSchema: true,
  tools: true,
  learn: true,
  sampling: true,
  grammar: true,
  adapters: true,
};
