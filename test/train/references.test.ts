import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { TrainEvent } from '../../src/contracts/index.ts';
import { prepareExamples } from '../../src/train/index.ts';
import { packSequences } from '../../src/train/packing.ts';
import { type ReferenceInput, referencesOf } from '../../src/train/references.ts';
import { BigramLearner, byteModel } from './byte-model.ts';
import { labelledRows, pairRows } from './training-job.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cupel-references-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const options = { overlong: 'error', maxTokens: null } as const;
const pairs = prepareExamples(byteModel, pairRows, { name: 'dpo', sequences: 'pair' }, options);
const labelled = prepareExamples(byteModel, labelledRows, { name: 'kto', sequences: 'labelled' }, options);

function inputOf(change: Partial<ReferenceInput>): { input: ReferenceInput; read: () => number } {
  let read = 0;
  const learner = new BigramLearner({ scale: 0.3 });
  const logProbabilities = learner.logProbabilities.bind(learner);
  learner.logProbabilities = (batch, forward) => {
    read += batch.offsets.length - 1;
    return logProbabilities(batch, forward);
  };
  const input: ReferenceInput = {
    learner,
    objective: { reference: true },
    examples: pairs,
    order: [[0, 1, 2]],
    maxTokens: 40,
    contextLength: 256,
    adapter: false,
    folder: null,
    identity: 'base',
    ...change,
  };
  return { input, read: () => read };
}

describe('references', () => {
  it('are read of what a step takes, and of nothing else', async () => {
    const { input, read } = inputOf({ order: [[4, 1], [1]] });
    const references = await referencesOf(input, () => {});
    expect(read()).toBe(4);
    expect(references?.of(0)).toBeNull();
    const plain = new BigramLearner({ scale: 0.3 });
    const own = await plain.logProbabilities(packSequences(pairs[4]?.sequences ?? []), { keep: false });
    expect(references?.of(4)?.flatMap((list) => [...list])).toEqual([...own]);
  });

  it('of mismatched pairs are those of the prompt with the answer of the next example, each read once', async () => {
    const order = [
      [2, 0, 5],
      [0, 5, 2],
    ];
    const change = { objective: { reference: true, mismatched: true }, examples: labelled, order, folder };
    const { input, read } = inputOf(change);
    const references = await referencesOf(input, () => {});
    expect(read()).toBe(3 + 3);
    const again = inputOf(change);
    const kept = await referencesOf(again.input, () => {});
    expect(again.read()).toBe(0);
    for (const indices of order) {
      for (const place of indices.keys()) {
        const found = references?.mismatched(indices, place);
        const [prompt, answer] = [indices[place], indices[(place + 1) % 3]].map(
          (index) => labelled[index ?? 0]?.sequences[0],
        );
        expect([...(found?.sequence.tokens ?? [])]).toEqual([
          ...(prompt?.tokens.subarray(0, prompt.promptLength) ?? []),
          ...(answer?.tokens.subarray(answer.promptLength) ?? []),
        ]);
        const plain = new BigramLearner({ scale: 0.3 });
        const own = await plain.logProbabilities(
          packSequences(found === null || found === undefined ? [] : [found.sequence]),
        );
        expect(found?.reference).toEqual(own);
        expect(kept?.mismatched(indices, place)).toEqual(found);
      }
    }
  });

  it('that can not be kept are told, and taken', async () => {
    await writeFile(join(folder, 'file'), '');
    const events: TrainEvent[] = [];
    const { input } = inputOf({ folder: join(folder, 'file', 'references') });
    const references = await referencesOf(input, (event) => events.push(event));
    expect(references?.of(1)).toHaveLength(2);
    expect(events).toEqual([
      expect.objectContaining({ type: 'warning', code: 'CUPEL_TRAIN_REFERENCES_NOT_KEPT' }) as TrainEvent,
    ]);
  });
});
