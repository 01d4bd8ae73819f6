import { describe, expect, it } from 'vitest';
import type {
  DistillationObjective,
  LearnerOptions,
  LearnerPlan,
  StepShape,
  TrainPlan,
} from '../../src/contracts/index.ts';
import { trainServices } from '../../src/train/index.ts';
import { dpoObjective } from '../../trainers/dpo.ts';
import { ktoObjective } from '../../trainers/kto.ts';
import { BigramLearner, byteModel, vocabularySize } from './byte-model.ts';
import { baseRecipe, labelledRows, pairRows, replayRows, trainingJob } from './training-job.ts';

const planned = (memoryBytes: number, secondsPerToken: number): LearnerPlan => ({
  parameters: 100,
  trainableParameters: 100,
  memoryBytes,
  operationsPerToken: 1,
  secondsPerToken,
});
const model = { ...byteModel, planLearner: () => Promise.resolve(planned(1000, 0.5)) };
const distillation = (topTokens: number | null): DistillationObjective => ({
  name: 'forward-kl',
  version: '1.0.0',
  head: 'distribution',
  temperature: 1,
  topTokens,
  evaluate: () => ({ loss: 0, gradients: new Float32Array(), metrics: {} }),
});

describe('the plan of a distillation', () => {
  it.each([
    ['the whole vocabulary', null, vocabularySize],
    ['the likeliest tokens', 4, 4],
  ])('holds the teacher and the distributions of %s', async (_, topTokens, width) => {
    const asked: [LearnerOptions, StepShape][] = [];
    const job = trainingJob('', {
      model,
      planTeacher: (options, shape) => {
        asked.push([options, shape]);
        return Promise.resolve(planned(5000, 0.9));
      },
    });
    const plan = await trainServices.plan(job, distillation(topTokens), baseRecipe);
    expect(asked).toHaveLength(1);
    expect(asked[0]?.[0]).toEqual({ compute: 'f32', frozen: true });
    const labelled = asked[0]?.[1].labelledTokens ?? 0;
    expect(plan.memoryBytes).toBe(1000 + 5000 + 3 * 4 * width * labelled);
    expect(plan.seconds).toBeCloseTo(plan.tokens * (0.5 + 0.3));
  });

  it('counts the weights of a teacher whose engine does not plan, and closes it', async () => {
    let closed = 0;
    const openTeacher = (): Promise<BigramLearner> => {
      const teacher = new BigramLearner();
      teacher.close = () => Promise.resolve(void closed++);
      return Promise.resolve(teacher);
    };
    const plan = await trainServices.plan(trainingJob('', { model, openTeacher }), distillation(1), baseRecipe);
    expect(plan.memoryBytes).toBeGreaterThan(1000 + 4 * vocabularySize ** 2);
    expect(plan.seconds).toBeNull();
    expect(closed).toBe(1);
  });
});

describe('the plan of a preference training', () => {
  it('counts that a coupled objective reads a step twice where it does not fit one part', async () => {
    const coupled = { ...dpoObjective({ beta: 0.1, nllWeight: 0, labelSmoothing: 0, replayWeight: 1 }), coupled: true };
    const job = trainingJob('', { model, data: pairRows });
    const [whole, parts] = [4096, 1].map((microBatchTokens) =>
      trainServices.plan(job, coupled, { ...baseRecipe, epochs: 1, batchSize: 7, microBatchTokens }),
    ) as [Promise<TrainPlan>, Promise<TrainPlan>];
    const { tokens, seconds } = await whole;
    expect((await parts).seconds).toBeCloseTo((seconds ?? 0) + (0.5 * tokens) / 3);
  });

  it('counts the reference of what is taken, and the mismatched answers', async () => {
    const dpo = dpoObjective({ beta: 0.1, nllWeight: 0, labelSmoothing: 0, replayWeight: 1 });
    const pairs = trainingJob('', { model, data: pairRows });
    const once = await trainServices.plan(pairs, dpo, { ...baseRecipe, epochs: 1 });
    expect(once.seconds).toBeCloseTo(0.5 * once.tokens * (4 / 3));
    const short = await trainServices.plan(pairs, dpo, { ...baseRecipe, maxSteps: 1 });
    expect(short.seconds).toBeCloseTo(0.5 * short.tokens * (4 / 3));
    const kto = ktoObjective({ beta: 0.1, loss: 'kto', desirableWeight: 1, undesirableWeight: 1, replayWeight: 1 });
    const replay = { rows: replayRows, perStep: 1 };
    const [plain, replayed] = [null, replay].map((rows) =>
      trainServices.plan(trainingJob('', { model, data: labelledRows, replay: rows }), kto, {
        ...baseRecipe,
        epochs: 1,
      }),
    );
    const { tokens, seconds } = await (plain as NonNullable<typeof plain>);
    expect(seconds).toBeCloseTo(0.5 * tokens * 2);
    const more = await (replayed as NonNullable<typeof replayed>);
    expect(more.seconds).toBeCloseTo(0.5 * (tokens * 2 + more.tokens - tokens));
  });
});
