import { join } from 'node:path';
import { expect, it } from 'vitest';
import native from '../../../engines/native/index.ts';
import type { Completion, GenerateRequest, Model, OpenOptions } from '../../../src/contracts/index.ts';
import { scoresOf, scoreWorkload, textsOf, workload } from '../../support/native-workload.ts';

const path = join(import.meta.dirname, '../../../fixtures/base');
// Keys and values of a token of the tiny base in f32: 4 layers, 2 heads, 32 numbers each.
const bytesOfToken = 2 * 4 * 2 * 32 * 4;

const open = (options: OpenOptions): Promise<Model> =>
  native.open({ id: 'base', path }, { threads: 2, weights: 'f32', kvCache: 'f32', ...options });

async function everything(
  model: Model,
  requests: readonly GenerateRequest[],
  signal?: AbortSignal,
): Promise<Completion[]> {
  const found: Completion[] = [];
  for await (const completion of model.generate(requests, signal)) found.push(completion);
  return found;
}

it('a cache that holds a few requests gives the tokens of one that holds all', async () => {
  const requests = workload(9, 80);
  const scores = scoreWorkload(9, 40);
  const roomy = await open({});
  const expected = { texts: await textsOf(roomy, requests), scores: await scoresOf(roomy, scores) };
  await roomy.close();
  for (const tokensHeld of [192, 320, 640]) {
    const tight = await open({ kvCacheBytes: tokensHeld * bytesOfToken, maxBatch: 16 });
    for (const round of [1, 2]) {
      expect(await textsOf(tight, requests), `${tokensHeld} tokens, round ${round}`).toEqual(expected.texts);
      expect(await scoresOf(tight, scores), `${tokensHeld} tokens, round ${round}`).toEqual(expected.scores);
    }
    await tight.close();
  }
});

it('requests that can never fit the cache are refused by code, and no other is lost', async () => {
  const model = await open({ kvCacheBytes: 96 * bytesOfToken, maxBatch: 8 });
  const fitting = workload(4, 60).filter(
    ({ prompt, maxTokens }) => 'ids' in prompt && prompt.ids.length + maxTokens <= 64,
  );
  expect(fitting.length).toBeGreaterThan(15);
  const large = Array.from({ length: 5 }, (_, index) => ({
    id: `large${index}`,
    prompt: { ids: Array.from({ length: 150 }, (__, place) => 6 + index + place) },
    maxTokens: 20,
  }));
  const mixed = fitting.flatMap((request, index) => [request, ...large.slice(index, index + 1)]);
  const found = await everything(model, mixed);
  expect(found.map(({ id }) => id).sort()).toEqual(mixed.map(({ id }) => id).sort());
  const refused = found.filter(({ finish }) => finish === 'error');
  expect(refused.map(({ id, error }) => `${id} ${error?.code}`).sort()).toEqual(
    large.map(({ id }) => `${id} CUPEL_NATIVE_KV_BUDGET`),
  );
  await expect(
    model.score([{ contextIds: [6, ...(large[0]?.prompt.ids ?? [])], continuationIds: [7] }]),
  ).rejects.toMatchObject({ code: 'CUPEL_NATIVE_KV_BUDGET' });
  await model.close();
});

it('cancelling stops within a step, and what runs beside goes on', async () => {
  const model = await open({ maxBatch: 16 });
  const long = Array.from({ length: 8 }, (_, index) => ({
    id: `long${index}`,
    prompt: { ids: [40 + index, 50, 60] },
    maxTokens: 250,
    // The end of turn never comes.
    sampling: { temperature: 0, logitBias: { [model.endOfTurn]: -1000 } },
  }));
  const beside = workload(2, 10);
  const expected = await textsOf(model, beside);
  const controller = new AbortController();
  let pieces = 0;
  let after = 0;
  const cancelled = (async () => {
    for await (const completion of model.generate(long, controller.signal, {
      onText: () => {
        pieces++;
        if (controller.signal.aborted) after++;
        if (pieces === 40) controller.abort(new Error('enough'));
      },
    }))
      throw new Error(`${completion.id} ended`);
  })();
  const [outcome, texts] = await Promise.all([
    cancelled.then(
      () => 'no error',
      (error: unknown) => (error as Error).message,
    ),
    textsOf(model, beside),
  ]);
  expect(outcome).toBe('enough');
  // What a step or two had chosen when the signal came may still arrive; eight requests have 1,960 tokens to go.
  expect(after).toBeLessThan(200);
  expect(texts).toEqual(expected);
  expect(await textsOf(model, beside)).toEqual(expected);
  await model.close();
});
