import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Learner, Model, TrainEvent, TrainingRow } from '../../src/contracts/index.ts';
import native from '../../engines/native/index.ts';
import { readTrainingRows } from '../../src/data/index.ts';
import { packageRoot } from '../../src/kit/index.ts';
import { prepareExamples, trainLoop } from '../../src/train/index.ts';
import { planned } from './planned.ts';

const folder = join(packageRoot(), 'fixtures/reference/e2e');
let model: Model;
let pairs: readonly TrainingRow[];
beforeAll(async () => {
  model = await native.open({ id: 'reference', path: folder }, { threads: 1 });
  pairs = (await readTrainingRows(join(folder, 'dpo.jsonl'))).slice(0, 6);
});
afterAll(() => model.close());

const common = { order: 'file', batchSize: 12, maxSteps: 4, epochs: 4, learningRate: 2e-3, schedule: 'constant' };

/** The steps of a short run that sees the same rows in each step. */
async function run(trainer: string, parameters: Readonly<Record<string, unknown>>): Promise<StepEvent[]> {
  const { objective, recipe } = await planned(trainer, { ...common, ...parameters });
  const learner = (await model.learner?.({ threads: 1, head: objective.head ?? 'tokens' })) as Learner;
  const steps: StepEvent[] = [];
  try {
    const examples = prepareExamples(model, pairs, objective, recipe);
    await trainLoop({ learner, objective, recipe, examples, replay: null, seed: 1 }, (event) => {
      if (event.type === 'step') steps.push(event);
    });
  } finally {
    await learner.close();
  }
  return steps;
}
type StepEvent = Extract<TrainEvent, { type: 'step' }>;

const objectives: readonly (readonly [string, Readonly<Record<string, unknown>>, string | null])[] = [
  ['sft', {}, null],
  ['sft', { loss: 'dft' }, null],
  ['dpo', { nllWeight: 0 }, 'reward_margin'],
  ['dpo', { loss: ['nca_pair', 'sft'], lossWeights: [1, 0.5], nllWeight: 0, learningRate: 3e-4 }, 'reward_margin'],
  ['dpo', { loss: 'aot', nllWeight: 0 }, 'reward_margin'],
  ['cpo', {}, 'reward_margin'],
  ['simpo', {}, 'reward_margin'],
  ['cpo-simpo', {}, 'reward_margin'],
  ['alphapo', {}, 'reward_margin'],
  ['orpo', {}, 'log_odds_ratio'],
  ['kto', {}, 'reward_desirable'],
  ['reward', {}, 'reward_margin'],
];

describe.each(objectives)('%s with %j on the real learner', (trainer, parameters, metric) => {
  it('lowers its loss, in one part as in many', async () => {
    const [whole, parts] = [
      await run(trainer, parameters),
      await run(trainer, { ...parameters, microBatchTokens: 150 }),
    ];
    const losses = whole.map(({ loss }) => loss);
    expect(losses).toHaveLength(4);
    // DFT counts a token by its own probability: what is learned counts more.
    if (parameters['loss'] !== 'dft') expect(losses.at(-1)).toBeLessThan(losses[0] ?? NaN);
    for (const [index, { loss }] of parts.entries())
      expect(Math.abs(loss - (losses[index] ?? NaN))).toBeLessThan(1e-5 * Math.max(1, losses[index] ?? NaN));
    if (metric !== null) expect(whole.at(-1)?.metrics[metric]).toBeGreaterThan(whole[0]?.metrics[metric] ?? NaN);
  });
});
