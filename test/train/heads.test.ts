import { describe, expect, it } from 'vitest';
import type {
  DistillationObjective,
  Learner,
  Objective,
  ObjectivePart,
  Recipe,
  TokenBatch,
  TrainEvent,
  TrainingRow,
} from '../../src/contracts/index.ts';
import { prepareExamples, trainLoop } from '../../src/train/index.ts';
import { dpoObjective } from '../../trainers/dpo.ts';
import { BigramLearner, byteModel, vocabularySize } from './byte-model.ts';
import { answerRows, baseRecipe, labelledRows, pairRows } from './training-job.ts';

const recipe: Recipe = { ...baseRecipe, checkpoints: null, epochs: 2, warmupSteps: 0 };

async function train(
  objective: Objective | DistillationObjective,
  data: readonly TrainingRow[],
  change: Partial<Recipe> = {},
  options: { learner?: BigramLearner; teacher?: Learner } = {},
) {
  const used = { ...recipe, ...change };
  const shape = objective.head === 'distribution' ? { name: objective.name, sequences: 'answer' as const } : objective;
  const learner = options.learner ?? new BigramLearner({ scale: 0.3 });
  const events: TrainEvent[] = [];
  const result = await trainLoop(
    {
      learner,
      objective,
      recipe: used,
      examples: prepareExamples(byteModel, data, shape, used),
      replay: null,
      seed: 1,
      teacher: options.teacher === undefined ? null : { learner: options.teacher, vocabularySize },
    },
    (event) => events.push(event),
  );
  return { learner, events, ...result };
}
const furthest = (a: BigramLearner, b: BigramLearner): number =>
  a.weights.reduce((most, value, index) => Math.max(most, Math.abs(value - (b.weights[index] ?? NaN))), 0);

/** Watches what a learner is asked. */
function watched(
  asked: { batch: TokenBatch; keep: boolean; adapter: boolean }[],
  learner: BigramLearner,
): BigramLearner {
  const logProbabilities = learner.logProbabilities.bind(learner);
  learner.logProbabilities = (batch, options) => {
    asked.push({ batch, keep: options?.keep ?? true, adapter: options?.adapter ?? true });
    return logProbabilities(batch, options);
  };
  return learner;
}

/** Squared distance of each pair's margin from the mean margin of the step: no sum over parts. */
const coupled: Objective = {
  name: 'spread',
  version: '1.0.0',
  sequences: 'pair',
  reference: false,
  coupled: true,
  evaluate({ examples }: ObjectivePart) {
    const sum = (list: ArrayLike<number> | undefined): number => Array.from(list ?? []).reduce((a, b) => a + b, 0);
    const margins = examples.map(({ policy }) => sum(policy[0]) - sum(policy[1]));
    const mean = margins.reduce((a, b) => a + b, 0) / margins.length;
    return {
      loss: margins.reduce((total, margin) => total + (margin - mean) ** 2, 0) / margins.length,
      gradients: examples.map(({ policy }, index) =>
        policy.map((list, side) =>
          Array.from(list, () => ((side === 0 ? 2 : -2) * ((margins[index] ?? 0) - mean)) / margins.length),
        ),
      ),
      replayGradients: [],
      metrics: { mean },
    };
  },
};

describe('a coupled objective', () => {
  it('sees whole steps, and gives the same weights when a step does not fit one part', async () => {
    const whole = await train(coupled, pairRows, { microBatchTokens: 4096 });
    const asked: { batch: TokenBatch; keep: boolean; adapter: boolean }[] = [];
    const learner = watched(asked, new BigramLearner({ scale: 0.3 }));
    const parts = await train(coupled, pairRows, { microBatchTokens: 1 }, { learner });
    expect(furthest(whole.learner, parts.learner)).toBeLessThan(1e-5);
    expect(parts.losses).toHaveLength(whole.losses.length);
    for (const [step, loss] of whole.losses.entries()) expect(parts.losses[step]).toBeCloseTo(loss, 6);
    // Three pairs of the first step: read without keeping, then once more to go back.
    expect(asked.slice(0, 6).map(({ keep }) => keep)).toEqual([false, false, false, true, true, true]);
  });
});

describe('an objective over mismatched answers', () => {
  const parts: ObjectivePart[] = [];
  const kto: Objective = {
    name: 'mismatched',
    version: '1.0.0',
    sequences: 'labelled',
    reference: true,
    mismatched: true,
    evaluate(part) {
      parts.push(part);
      const gradients = part.examples.map(({ policy, desirable }) =>
        policy.map((list) => Array.from(list, () => (desirable === true ? -0.1 : 0.1))),
      );
      return { loss: 1, gradients, replayGradients: [], metrics: {} };
    },
  };

  it('reads each prompt with the answer of the next example of the step', async () => {
    parts.length = 0;
    const asked: { batch: TokenBatch; keep: boolean; adapter: boolean }[] = [];
    const learner = watched(asked, new BigramLearner({ scale: 0.3 }));
    await train(kto, labelledRows, { epochs: 1, order: 'file', microBatchTokens: 4096, batchSize: 3 }, { learner });
    // Of seven rows the last step has one alone: its partner is the next of the data, the first.
    const wanted = [
      [0, 1],
      [1, 2],
      [2, 0],
      [3, 4],
      [4, 5],
      [5, 3],
      [6, 0],
    ].map(([prompt, answer]) => {
      const text = (index: number | undefined): string => (labelledRows[index ?? 0] as { answer: string }).answer;
      return `ask ${prompt}${text(answer)}`;
    });
    const reading = asked.filter(({ keep }) => !keep).slice(1);
    const seen = reading.flatMap(({ batch }) =>
      [...batch.offsets]
        .slice(1)
        .map((end, index) => byteModel.detokenize([...batch.tokens.subarray(batch.offsets[index] ?? 0, end)])),
    );
    expect(seen).toEqual(wanted);
    // The second is the first once more, with the policy still at the reference.
    const totals = parts.filter((_, index) => index !== 1).map(({ totals: one }) => one);
    expect(totals.map(({ examples, desirable, mismatched }) => [examples, desirable, mismatched?.length])).toEqual([
      [3, 2, 3],
      [3, 2, 3],
      [1, 1, 1],
    ]);
    // Before the first step policy and reference are one; after it they are not.
    const distance = (index: number): number => {
      const [first] = totals[index]?.mismatched ?? [];
      return Math.abs((first?.policy[0] ?? NaN) - (first?.reference[0] ?? NaN));
    };
    expect(distance(0)).toBe(0);
    expect(distance(1)).toBeGreaterThan(1e-4);
  });

  it('refuses a single example', async () => {
    await expect(train(kto, labelledRows.slice(0, 1))).rejects.toMatchObject({
      code: 'CUPEL_TRAIN_MISMATCH_NEEDS_TWO',
    });
  });
});

describe('preference training', () => {
  const dpo = dpoObjective({ beta: 0.1, nllWeight: 0, labelSmoothing: 0, replayWeight: 0 });

  it('takes the base under the adapters as reference', async () => {
    const asked: { batch: TokenBatch; keep: boolean; adapter: boolean }[] = [];
    const adapter = { rank: 2, alpha: 4 };
    const learner = watched(asked, new BigramLearner({ scale: 0.3, adapter }));
    const tuning = { kind: 'lora' as const, ...adapter };
    const { losses } = await train(dpo, pairRows, { tuning }, { learner });
    expect(losses[0]).toBeCloseTo(Math.LN2, 12);
    expect(asked.filter(({ keep }) => !keep).every((one) => !one.adapter)).toBe(true);
    expect(asked.filter(({ keep }) => keep).every((one) => one.adapter)).toBe(true);
  });

  it('refuses to start where policy and reference are not one', async () => {
    const learner = new BigramLearner({ scale: 0.3 });
    const logProbabilities = learner.logProbabilities.bind(learner);
    learner.logProbabilities = async (batch, options) => {
      const values = await logProbabilities(batch, options);
      return options?.keep === false ? values.map((value, index) => value + index * 1e-3) : values;
    };
    await expect(train(dpo, pairRows, {}, { learner })).rejects.toMatchObject({
      code: 'CUPEL_TRAIN_REFERENCE_DIFFERS',
      message: expect.stringMatching(/^the first loss is 0\.69\d+, and 0\.6931471805599453 where/) as string,
    });
  });

  it('tells once when the answers to learn become much less likely', async () => {
    const unlikely: Objective = {
      ...dpo,
      evaluate: ({ examples }) => ({
        loss: 0.5,
        gradients: examples.map(({ policy }) => policy.map((list) => Array.from(list, () => 1))),
        replayGradients: [],
        metrics: {},
      }),
    };
    const { events } = await train(unlikely, pairRows, { epochs: 6, learningRate: 0.5 });
    const warnings = events.filter((event) => event.type === 'warning');
    expect(warnings.map(({ code }) => code)).toEqual(['CUPEL_TRAIN_CHOSEN_FALLS']);
  });

  it('names the rows whose log-probabilities are not finite', async () => {
    const learner = new BigramLearner();
    learner.weights.fill(NaN, 134 * 6, 134 * 134);
    await expect(train(dpo, pairRows.slice(0, 3), {}, { learner })).rejects.toMatchObject({
      code: 'CUPEL_TRAIN_NOT_FINITE',
      where: expect.stringMatching(/^rows p\d/) as string,
    });
  });
});

describe('an objective over rewards', () => {
  it('gets one number a sequence and learns to prefer', async () => {
    const reward: Objective = {
      name: 'reward',
      version: '1.0.0',
      sequences: 'pair',
      head: 'reward',
      reference: false,
      evaluate({ examples, totals }) {
        let loss = 0;
        const gradients = examples.map(({ policy: [chosen, rejected] }) => {
          expect([chosen?.length, rejected?.length]).toEqual([1, 1]);
          const margin = (chosen?.[0] ?? 0) - (rejected?.[0] ?? 0);
          loss += Math.log1p(Math.exp(-margin)) / totals.examples;
          const slope = -1 / (1 + Math.exp(margin)) / totals.examples;
          return [[slope], [-slope]];
        });
        return { loss, gradients, replayGradients: [], metrics: {} };
      },
    };
    // All answers end with the same token: without another ending a bigram model can not tell them apart.
    const learner = new BigramLearner();
    const rewards = learner.rewards.bind(learner);
    learner.rewards = (batch, options) =>
      rewards(
        { ...batch, offsets: batch.offsets, tokens: batch.tokens.map((id, at) => batch.tokens[at - 1] ?? id) },
        options,
      );
    const { losses } = await train(reward, pairRows, { epochs: 8, learningRate: 0.3 }, { learner });
    expect(losses[0]).toBeCloseTo(Math.LN2, 6);
    expect(losses.at(-1)).toBeLessThan(0.3);
  });
});

describe('distillation', () => {
  /** KL(teacher ‖ student) over the tokens that are compared. */
  const forwardKl = (topTokens: number | null): DistillationObjective => ({
    name: 'forward-kl',
    version: '1.0.0',
    head: 'distribution',
    temperature: 2,
    topTokens,
    evaluate({ width, student, teacher, weights, totalWeight }) {
      let loss = 0;
      const gradients = new Float32Array(student.length);
      for (let index = 0; index < student.length; index++) {
        const probability = Math.exp(teacher[index] ?? 0);
        const share = (weights[Math.floor(index / width)] ?? 0) / totalWeight;
        loss += share * probability * ((teacher[index] ?? 0) - (student[index] ?? 0));
        gradients[index] = -share * probability;
      }
      return { loss, gradients, metrics: { width: width / 1000 } };
    },
  });
  const teacher = new BigramLearner({ scale: 2 });

  it.each([
    ['the whole vocabulary', null],
    ['the most likely tokens', 8],
  ])('brings the student to the teacher: %s', async (_, topTokens) => {
    const { losses } = await train(forwardKl(topTokens), answerRows, { epochs: 12, learningRate: 0.3 }, { teacher });
    expect(losses.at(-1)).toBeLessThan((losses[0] ?? NaN) / 4);
  });

  it('gives the same weights in parts of a step', async () => {
    const [whole, parts] = await Promise.all(
      [4096, 1].map((microBatchTokens) => train(forwardKl(null), answerRows, { microBatchTokens }, { teacher })),
    );
    expect(furthest(whole?.learner as BigramLearner, parts?.learner as BigramLearner)).toBeLessThan(1e-5);
    for (const [step, loss] of whole?.losses.entries() ?? []) expect(parts?.losses[step]).toBeCloseTo(loss, 6);
  });

  it('reads a sequence more than once where its distributions do not fit, with the same result', async () => {
    const whole = await train(forwardKl(null), answerRows, { maxSteps: 3 }, { teacher });
    // Told of a vocabulary so large that no more than one labelled token fits.
    const learner = new BigramLearner({ scale: 0.3 });
    const shape = { name: 'forward-kl', sequences: 'answer' as const };
    const examples = prepareExamples(byteModel, answerRows, shape, recipe);
    await trainLoop(
      {
        learner,
        objective: forwardKl(null),
        recipe: { ...recipe, maxSteps: 3 },
        examples,
        replay: null,
        seed: 1,
        teacher: { learner: teacher, vocabularySize: 1 << 24 },
      },
      () => {},
    );
    expect(furthest(whole.learner, learner)).toBeLessThan(1e-5);
  });

  it('refuses a missing teacher, and one with another vocabulary', async () => {
    await expect(train(forwardKl(null), answerRows)).rejects.toMatchObject({ code: 'CUPEL_TRAIN_NO_TEACHER' });
    const small = new BigramLearner();
    const distributions = small.distributions.bind(small);
    small.distributions = async (batch, ids, options) => (await distributions(batch, ids, options)).slice(10);
    await expect(train(forwardKl(null), answerRows, {}, { teacher: small })).rejects.toMatchObject({
      code: 'CUPEL_TRAIN_TEACHER_VOCABULARY',
    });
  });
});
