import { describe, expect, it } from 'vitest';
import type { TrainJob } from '../../src/contracts/index.ts';
import sft from '../../trainers/sft.ts';
import { planned as read } from './planned.ts';

describe('the recipe', () => {
  it('has defaults that train every weight in f32 with a linear schedule, and refuse overlong rows', async () => {
    const { recipe } = await read('sft', {});
    expect(recipe).toEqual({
      epochs: 3,
      maxSteps: null,
      batchSize: 16,
      microBatchTokens: 8192,
      learningRate: 1e-3,
      schedule: 'linear',
      warmupSteps: 0,
      weightDecay: 0.01,
      maxGradNorm: 1,
      beta1: 0.9,
      beta2: 0.999,
      epsilon: 1e-8,
      order: 'shuffle',
      maxTokens: null,
      overlong: 'error',
      dtype: 'bf16',
      tuning: { kind: 'full' },
      compute: 'f32',
      recompute: false,
      checkpoints: null,
    });
  });

  it.each([
    ['full', { kind: 'full' }],
    ['lora', { kind: 'lora', base: 'f32', save: 'model', rank: 16, alpha: 32 }],
    ['qlora', { kind: 'qlora', base: 'q8_0', save: 'model', rank: 16, alpha: 32 }],
    [
      { kind: 'qlora', rank: 8, base: 'q4_0', save: 'adapter', targets: ['q_proj'] },
      { kind: 'qlora', rank: 8, alpha: 16, base: 'q4_0', save: 'adapter', targets: ['q_proj'] },
    ],
    [
      { kind: 'lora', alpha: 4, base: 'bf16' },
      { kind: 'lora', rank: 16, alpha: 4, base: 'bf16', save: 'model' },
    ],
  ])('reads tuning %j', async (tuning, expected) => {
    expect((await read('sft', { tuning })).recipe.tuning).toEqual(expected);
  });

  it.each([
    ['cosine', 'cosine'],
    ['polynomial', { kind: 'polynomial' }],
    [
      { kind: 'wsd', decaySteps: 4 },
      { kind: 'wsd', decaySteps: 4 },
    ],
    [
      { kind: 'cosine', cycles: 0.5, minimumRatio: 0.1 },
      { kind: 'cosine', cycles: 0.5, minimumRatio: 0.1 },
    ],
  ])('reads the schedule %j', async (schedule, expected) => {
    expect((await read('sft', { schedule })).recipe.schedule).toEqual(expected);
  });

  it('keeps two checkpoints unless told, and takes a share of the steps as warmup', async () => {
    const { recipe } = await read('sft', { checkpoints: { everySteps: 5 }, warmupSteps: 0.1 });
    expect([recipe.checkpoints, recipe.warmupSteps]).toEqual([{ everySteps: 5, keep: 2 }, 0.1]);
  });

  it.each([
    [{ tuning: 'loro' }, 'CUPEL_FIELD_INVALID', 'tuning'],
    [{ tuning: { rank: 4 } }, 'CUPEL_FIELD_INVALID', 'kind'],
    [{ tuning: { kind: 'full', rank: 4 } }, 'CUPEL_FIELD_UNKNOWN', 'rank'],
    [{ tuning: { kind: 'lora', base: 'q8_0' } }, 'CUPEL_FIELD_INVALID', 'tuning.base'],
    [{ tuning: { kind: 'qlora', base: 'f32' } }, 'CUPEL_FIELD_INVALID', 'tuning.base'],
    [{ schedule: 'wsd' }, 'CUPEL_FIELD_INVALID', 'schedule'],
    [{ schedule: { kind: 'wsd' } }, 'CUPEL_FIELD_INVALID', 'decaySteps'],
    [{ schedule: { kind: 'cosine', power: 2 } }, 'CUPEL_FIELD_UNKNOWN', 'power'],
    [{ checkpoints: {} }, 'CUPEL_FIELD_INVALID', 'checkpoints'],
    [{ warmupSteps: 1.5 }, 'CUPEL_FIELD_INVALID', 'warmupSteps'],
    [{ overlong: 'crop' }, 'CUPEL_FIELD_INVALID', 'overlong'],
    [{ learningRates: 1 }, 'CUPEL_FIELD_UNKNOWN', 'learningRate'],
  ])('refuses %j by name', async (parameters, code, name) => {
    await expect(read('sft', parameters)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(name) as string,
    });
  });
});

describe('parameters that do nothing are refused by name', () => {
  it.each([
    ['dpo', { loss: 'ipo', labelSmoothing: 0.1 }, 'labelSmoothing'],
    ['dpo', { loss: ['hinge', 'nca_pair'], labelSmoothing: 0.1 }, 'labelSmoothing'],
    ['dpo', { loss: 'exo_pair' }, 'labelSmoothing'],
    ['dpo', { loss: 'sigmoid', discopopTau: 0.1 }, 'discopopTau'],
    ['dpo', { loss: 'apo_zero', divergence: 'forward_kl' }, 'divergence'],
    ['dpo', { loss: ['sigmoid', 'aot'], divergence: 'forward_kl' }, 'divergence'],
    ['dpo', { loss: 'sft', divergence: 'forward_kl', nllWeight: 0 }, 'divergence'],
    ['dpo', { loss: 'sft', ldAlpha: 0.5, nllWeight: 0 }, 'ldAlpha'],
    ['dpo', { divergenceAlpha: 0.5 }, 'divergenceAlpha'],
    ['dpo', { loss: ['sigmoid', 'sft'] }, 'nllWeight'],
    ['dpo', { loss: ['sigmoid', 'ipo'], lossWeights: [1] }, 'lossWeights'],
    ['cpo', { loss: 'hinge', labelSmoothing: 0.1 }, 'labelSmoothing'],
    ['alphapo', { alpha: 0 }, 'alpha'],
    ['kto', { batchSize: 1 }, 'batchSize'],
    ['kto', { desirableWeight: 0, undesirableWeight: 0 }, 'desirableWeight'],
    ['dpo', { loss: 'exo_pair', labelSmoothing: 1e-46 }, 'labelSmoothing'],
  ])('%s with %j', async (trainer, parameters, name) => {
    await expect(read(trainer, parameters)).rejects.toMatchObject({
      code: 'CUPEL_TRAINER_PARAMETER',
      exit: 2,
      where: `parameters.${name}`,
      message: expect.stringContaining(`"${name}"`) as string,
    });
  });

  it.each([
    ['dpo', { loss: 'sigmoid', labelSmoothing: 0.1 }],
    ['dpo', { loss: ['sigmoid', 'sft'], lossWeights: [1, 0.5], nllWeight: 0 }],
    ['dpo', { loss: 'ipo', divergence: 'alpha_divergence', divergenceAlpha: 0.3, ldAlpha: 0.5 }],
    ['dpo', { loss: 'discopop', discopopTau: 0.1 }],
    ['kto', { loss: 'apo_zero_unpaired', batchSize: 1 }],
    ['cpo', { loss: 'sigmoid', labelSmoothing: 0.1 }],
  ])('%s with %j is taken', async (trainer, parameters) => {
    expect((await read(trainer, parameters)).objective.name).toBe(trainer);
  });

  it('an unknown loss, and one named twice, are refused', async () => {
    for (const loss of ['sigmod', ['sigmoid', 'sigmoid'], [], ['nope']])
      await expect(read('dpo', { loss })).rejects.toMatchObject({ code: 'CUPEL_FIELD_INVALID' });
  });

  it('rows to replay are refused by the reward model, which learns no text', async () => {
    const replay = { rows: [], perStep: 1 };
    await expect(read('reward', {}, { replay })).rejects.toMatchObject({ code: 'CUPEL_TRAINER_NO_REPLAY' });
    await expect(read('reward', { replayWeight: 1 })).rejects.toMatchObject({ code: 'CUPEL_FIELD_UNKNOWN' });
  });

  it('a trainer over a learner says so when the training room is missing', async () => {
    const job = { id: 'alone', parameters: {}, services: null, replay: null } as unknown as TrainJob;
    await expect(sft.plan(job)).rejects.toMatchObject({ code: 'CUPEL_TRAINER_NO_SERVICES', exit: 70 });
  });
});

describe('what an objective asks of the loop', () => {
  const needs = async (trainer: string, parameters: Readonly<Record<string, unknown>> = {}): Promise<unknown> => {
    const { sequences, reference, head, promptLabels, mismatched, coupled } = (await read(trainer, parameters))
      .objective;
    const flags = { reference, reward: head === 'reward', promptLabels, mismatched, coupled };
    return [sequences, ...Object.entries(flags).flatMap(([name, value]) => (value === true ? [name] : []))];
  };

  it.each([
    ['sft', {}, ['answer']],
    ['dpo', {}, ['pair', 'reference']],
    ['dpo', { loss: 'aot' }, ['pair', 'reference', 'coupled']],
    ['dpo', { loss: ['aot_unpaired', 'ipo'] }, ['pair', 'reference', 'coupled']],
    ['dpo', { loss: 'sft', nllWeight: 0 }, ['pair']],
    ['cpo', {}, ['pair']],
    ['simpo', {}, ['pair']],
    ['cpo-simpo', {}, ['pair']],
    ['alphapo', {}, ['pair']],
    ['orpo', {}, ['pair', 'promptLabels']],
    ['kto', {}, ['labelled', 'reference', 'mismatched']],
    ['kto', { loss: 'apo_zero_unpaired' }, ['labelled', 'reference']],
    ['reward', {}, ['pair', 'reward']],
  ])('%s with %j', async (trainer, parameters, expected) => {
    expect(await needs(trainer, parameters)).toEqual(expected);
  });
});
