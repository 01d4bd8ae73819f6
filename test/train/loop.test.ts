import { describe, expect, it } from 'vitest';
import type { Objective, Recipe, TrainEvent, TrainingRow } from '../../src/contracts/index.ts';
import { prepareExamples, trainLoop } from '../../src/train/index.ts';
import { dpoObjective } from '../../trainers/dpo.ts';
import { sftObjective } from '../../trainers/sft.ts';
import { BigramLearner, byteModel, vocabularySize } from './byte-model.ts';

const recipe: Recipe = {
  epochs: 2,
  batchSize: 4,
  microBatchTokens: 4096,
  learningRate: 0.05,
  schedule: 'linear',
  warmupSteps: 0,
  weightDecay: 0.01,
  maxGradNorm: 1,
  beta1: 0.9,
  beta2: 0.99,
  epsilon: 1e-8,
  order: 'shuffle',
  overlong: 'error',
  dtype: 'f32',
  maxSteps: null,
  maxTokens: null,
  tuning: { kind: 'full' },
  compute: 'f32',
  recompute: false,
  checkpoints: null,
};
const answers = ['ship', 'refund the whole order', 'no', 'call back', 'reset', 'a', 'escalate this', 'wait'];
const rows: TrainingRow[] = answers.map((content, index) => ({
  id: `r${index}`,
  kind: 'messages',
  messages: [
    { role: 'user', content: `ask ${index}` },
    { role: 'assistant', content },
  ],
}));
const pairs: TrainingRow[] = answers.map((chosen, index) => ({
  id: `p${index}`,
  kind: 'preference',
  prompt: [{ role: 'user', content: `ask ${index}` }],
  chosen,
  rejected: [...chosen].reverse().join('') + '!',
}));
const texts: TrainingRow[] = ['the cat sat', 'on the mat'].map((text, index) => ({
  id: `t${index}`,
  kind: 'text',
  text,
}));

async function run(
  objective: Objective,
  data: readonly TrainingRow[],
  change: Partial<Recipe> = {},
  seed = 1,
  replay: readonly TrainingRow[] = [],
) {
  const learner = new BigramLearner();
  const events: TrainEvent[] = [];
  const result = await trainLoop(
    {
      learner,
      objective,
      recipe: { ...recipe, ...change },
      examples: prepareExamples(byteModel, data, objective, recipe),
      replay: replay.length === 0 ? null : { examples: prepareExamples(byteModel, replay, sft, recipe), perStep: 1 },
      seed,
    },
    (event) => events.push(event),
  );
  return { learner, events, ...result };
}
const greatestDifference = (a: Float64Array, b: Float64Array): number =>
  a.reduce((most, value, index) => Math.max(most, Math.abs(value - (b[index] ?? NaN))), 0);
const sft = sftObjective({ replayWeight: 0.5 });
const dpo = dpoObjective({ beta: 0.1, nllWeight: 0, labelSmoothing: 0, replayWeight: 0 });

describe('the training loop', () => {
  it('lowers the loss and reports every step', async () => {
    const { losses, events, steps, trainedTokens } = await run(sft, rows, { epochs: 10, learningRate: 0.3 });
    expect(steps).toBe(20);
    expect(losses[0]).toBeCloseTo(Math.log(vocabularySize), 5);
    expect(losses.at(-1)).toBeLessThan(4);
    expect(events.map((event) => event.type === 'step' && event.step)).toEqual(
      Array.from({ length: 20 }, (_, index) => index + 1),
    );
    expect(trainedTokens).toBe(
      10 *
        prepareExamples(byteModel, rows, sft, recipe).reduce(
          (sum, { sequences }) => sum + (sequences[0]?.tokens.length ?? 0),
          0,
        ),
    );
  });

  it('gives the same weights for the same seed, and others for another', async () => {
    const [a, b, c] = [await run(sft, rows), await run(sft, rows), await run(sft, rows, {}, 2)];
    expect(a.learner.weights).toEqual(b.learner.weights);
    expect(greatestDifference(a.learner.weights, c.learner.weights)).toBeGreaterThan(1e-4);
  });

  it.each([
    ['sft', sft, rows],
    ['dpo', dpoObjective({ beta: 0.1, nllWeight: 0.5, labelSmoothing: 0, replayWeight: 0.5 }), pairs],
  ] as const)('trains %s in parts as in one batch: normalised over the whole step', async (_, objective, data) => {
    const whole = await run(objective, data, {}, 1, texts);
    const parts = await run(objective, data, { microBatchTokens: 1 }, 1, texts);
    // Gradients go to the learner as f32, and AdamW divides small ones by their own size.
    expect(greatestDifference(whole.learner.weights, parts.learner.weights)).toBeLessThan(1e-5);
    for (const [step, loss] of whole.losses.entries()) expect(parts.losses[step]).toBeCloseTo(loss, 6);
    for (const [name, value] of Object.entries(whole.metrics)) expect(parts.metrics[name]).toBeCloseTo(value, 5);
  });

  it('starts preference training at ln 2 and a margin of 0, and raises the margin', async () => {
    const { losses, events, metrics } = await run(dpo, pairs, { epochs: 5 });
    expect(losses[0]).toBeCloseTo(Math.LN2, 12);
    expect(events[0]?.type === 'step' && events[0].metrics['reward_margin']).toBe(0);
    expect(metrics['reward_margin']).toBeGreaterThan(0.05);
    expect(losses.at(-1)).toBeLessThan(Math.LN2);
  });

  it('learns replayed rows too, by their weight', async () => {
    const [half, zero, five] = [
      await run(sft, rows, { epochs: 6 }, 1, texts),
      await run(sftObjective({ replayWeight: 0 }), rows, { epochs: 6 }, 1, texts),
      await run(sftObjective({ replayWeight: 5 }), rows, { epochs: 6 }, 1, texts),
    ];
    const examples = prepareExamples(byteModel, texts, sft, recipe);
    const lossOf = async (learner: BigramLearner): Promise<number> =>
      (
        await trainLoop(
          {
            learner,
            objective: sft,
            recipe: { ...recipe, epochs: 1, learningRate: 1e-12 },
            examples,
            replay: null,
            seed: 1,
          },
          () => {},
        )
      ).losses[0] ?? NaN;
    const [some, none, much] = [await lossOf(half.learner), await lossOf(zero.learner), await lossOf(five.learner)];
    expect(none).toBeGreaterThan(some);
    expect(some).toBeGreaterThan(much);
  });

  it('stops on a loss that is not finite and names the rows', async () => {
    await expect(
      run({ ...sft, evaluate: (part) => ({ ...sft.evaluate(part), loss: NaN }) }, rows),
    ).rejects.toMatchObject({
      code: 'CUPEL_TRAIN_NOT_FINITE',
      message: 'step 1: the loss is NaN; no checkpoint was kept',
      where: expect.stringMatching(/^rows r\d, r\d, r\d, r\d$/) as string,
    });
  });

  it('stops when it is told to', async () => {
    const examples = prepareExamples(byteModel, rows, sft, recipe);
    const controller = new AbortController();
    const seen: TrainEvent[] = [];
    const running = trainLoop(
      { learner: new BigramLearner(), objective: sft, recipe, examples, replay: null, seed: 1 },
      (event) => (seen.push(event), controller.abort()),
      controller.signal,
    );
    await expect(running).rejects.toThrow('aborted');
    expect(seen).toHaveLength(1);
  });
});
