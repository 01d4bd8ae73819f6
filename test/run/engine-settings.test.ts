import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ModelSettings, Run } from '../../src/contracts/index.ts';
import { evidenceProblems } from '../../src/gate/index.ts';
import { evaluate, type EvaluateOptions } from '../../src/run/index.ts';
import { openRunStore } from '../../src/store/index.ts';
import { canEverything, echoModel } from './echo-model.ts';
import { lookup, sampleSuite } from './sample-suite.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cupel-settings-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

function run(model: ReturnType<typeof echoModel>, change: Partial<EvaluateOptions> = {}): Promise<Run> {
  return evaluate({
    model,
    checkpointId: 'echo',
    capabilities: canEverything,
    suite: sampleSuite(),
    split: 'test',
    validators: lookup,
    store: openRunStore(directory),
    seed: 1,
    ...change,
  });
}

const opened = (settings: ModelSettings): ReturnType<typeof echoModel> => ({ ...echoModel(), settings });
const plain: ModelSettings = { weights: 'as-stored', kvCache: 'default' };

describe('what a model was opened with', () => {
  it('is part of what a run is: other settings are another run', async () => {
    const [first, second, again] = [
      await run(opened(plain)),
      await run(opened({ weights: 'q8_0', kvCache: 'f16' })),
      await run(opened(plain)),
    ];
    expect(first?.identity.decoding['engine']).toEqual(plain);
    expect(second?.identity.decoding['engine']).toEqual({ weights: 'q8_0', kvCache: 'f16' });
    expect(new Set([first, second, again].map((one) => one?.identity.id)).size).toBe(2);
  });

  it('is nothing where an engine has no such choice', async () => {
    expect((await run(echoModel())).identity.decoding).not.toHaveProperty('engine');
  });

  it('keeps the gate from comparing runs that differ in it, unless one engine has no such choice', async () => {
    const [first, second, third] = [
      await run(opened(plain)),
      await run(opened({ weights: 'w8a8', kvCache: 'default' })),
      await run(echoModel()),
    ];
    expect(evidenceProblems([first], [second])).toEqual([
      expect.stringMatching(
        /was run with other decoding: baseline .*"weights":"as-stored".*candidate .*"weights":"w8a8"/,
      ),
    ]);
    expect(evidenceProblems([first], [third])).toEqual([]);
  });
});

describe('a suite that samples', () => {
  const suite = sampleSuite({ decoding: { maxTokens: 16, sampling: { temperature: 0.7, topP: 0.9 } } });

  it('says so in the identity, and seeds each case and epoch from the run’s seed', async () => {
    const model = echoModel();
    const found = await run(model, { suite, epochs: 2 });
    expect(found.identity.decoding['sampling']).toEqual({ temperature: 0.7, topP: 0.9 });
    const seeds = model.asked.map(({ sampling }) => sampling?.seed);
    expect(new Set(seeds).size).toBe(24);
    for (const seed of seeds) expect(Number.isSafeInteger(seed) && (seed ?? -1) >= 0).toBe(true);
    const other = echoModel();
    await run(other, { suite, epochs: 2, store: openRunStore(join(directory, 'other')), concurrency: 3 });
    const bySeed = (asked: typeof model.asked) =>
      Object.fromEntries(asked.map(({ id, sampling }) => [id, sampling?.seed]));
    expect(bySeed(other.asked)).toEqual(bySeed(model.asked));
  });

  it('is compared by the gate only at one seed; greedy runs at any', async () => {
    const seeds = async (change: Partial<EvaluateOptions>): Promise<string[]> =>
      evidenceProblems([await run(echoModel(), change)], [await run(echoModel(), { ...change, seed: 2 })]);
    expect(await seeds({ suite })).toEqual([
      expect.stringContaining('samples and was run with other seeds: baseline 1, candidate 2'),
    ]);
    expect(await seeds({})).toEqual([]);
  });

  it('is refused by name before the first request where the engine cannot', async () => {
    const model = echoModel();
    await expect(run(model, { suite, capabilities: { ...canEverything, sampling: false } })).rejects.toMatchObject({
      code: 'CUPEL_RUN_ENGINE_CANNOT',
      message: expect.stringContaining('sampling'),
    });
    expect(model.asked).toEqual([]);
  });
});

it('a schema that the engine cannot enforce ends the run before the first request', async () => {
  const model = {
    ...echoModel(),
    checkConstraint: () => Promise.reject(new Error('uniqueItems can not be enforced')),
  };
  const suite = sampleSuite({ decoding: { maxTokens: 16, jsonSchema: { type: 'array', uniqueItems: true } } });
  await expect(run(model, { suite })).rejects.toThrow('uniqueItems');
  expect(model.asked).toEqual([]);
  expect((await run(model, { suite, variant: { constrained: false } })).complete).toBe(true);
});
