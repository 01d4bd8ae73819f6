import type { Completion, GenerateRequest, Model, TokenScoreRequest } from '../../src/contracts/index.ts';
import { Random } from '../../src/kit/index.ts';

/** What a model reads; by default the tiny base. */
export interface Reach {
  readonly vocabularySize: number;
  readonly contextLength: number;
}
const tinyBase: Reach = { vocabularySize: 2048, contextLength: 256 };

/** Random token ids that are no special tokens. */
function tokens(random: Random, count: number, { vocabularySize }: Reach): number[] {
  return Array.from({ length: count }, () => 6 + random.integer(vocabularySize - 6));
}

/**
 * Prompts of 1 to about 120 tokens: some alike up to a point, some equal, some longer than two pages of the cache, one
 * in four sampled.
 */
export function workload(seed: number, count: number, reach = tinyBase): GenerateRequest[] {
  const random = new Random(seed, 'workload');
  const shared = [33, 64, 80].map((length) => tokens(random, length, reach));
  return Array.from({ length: count }, (_, index): GenerateRequest => {
    const begin = shared[random.integer(6)] ?? [];
    const cut = random.integer(4) === 0 ? random.integer(begin.length + 1) : begin.length;
    const own = tokens(random, 1 + random.integer(40), reach);
    const maxTokens = 1 + random.integer(20);
    const sampling = { temperature: 0.8, topP: 0.9, topK: 200, seed: index };
    return {
      id: `r${String(index).padStart(3, '0')}`,
      prompt: { ids: [...begin.slice(0, cut), ...own].slice(0, reach.contextLength - maxTokens) },
      maxTokens,
      ...(random.integer(4) === 0 ? { sampling } : {}),
    };
  });
}

/** Continuations of the same contexts and of others. */
export function scoreWorkload(seed: number, count: number, reach = tinyBase): TokenScoreRequest[] {
  const random = new Random(seed, 'scores');
  const contexts = [5, 40, 88].map((length) => tokens(random, length, reach));
  return Array.from({ length: count }, () => {
    const own = tokens(random, random.integer(8), reach);
    return {
      contextIds: [...(contexts[random.integer(4)] ?? [7]), ...own],
      continuationIds: tokens(random, 1 + random.integer(30), reach),
    };
  });
}

/** Text, end and length of every completion by id; errors are kept too. */
export async function textsOf(
  model: Model,
  requests: readonly GenerateRequest[],
  signal?: AbortSignal,
): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for await (const completion of model.generate(requests, signal)) {
    if (found.has(completion.id)) throw new Error(`${completion.id} was answered twice`);
    found.set(completion.id, essence(completion));
  }
  return new Map([...found].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function essence({ text, finish, usage, error }: Completion): string {
  return JSON.stringify([text, finish, usage.promptTokens, usage.generatedTokens, error?.code]);
}

/** Every log-probability with all its bits, in the order of the requests. */
export async function scoresOf(model: Model, requests: readonly TokenScoreRequest[]): Promise<string[]> {
  const scores = await model.score(requests);
  return scores.map(({ logProbabilities, isGreedy }) => JSON.stringify([logProbabilities, isGreedy]));
}
