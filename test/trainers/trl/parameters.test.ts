import { describe, expect, it } from 'vitest';
import type { TrainJob } from '../../../src/contracts/index.ts';
import { dependsOnDivision, methodOptions, methods } from '../../../trainers/trl/methods.ts';
import { readTrlJob } from '../../../trainers/trl/parameters.ts';

function jobOf(parameters: Readonly<Record<string, unknown>>, more: Partial<TrainJob> = {}): TrainJob {
  return {
    id: 'job',
    base: null,
    model: null,
    openLearner: null,
    openTeacher: null,
    services: null,
    data: [],
    replay: null,
    parameters,
    seed: 1,
    output: '/nowhere',
    work: null,
    resume: false,
    validation: null,
    ...more,
  };
}

const refusal = (parameters: Readonly<Record<string, unknown>>, more: Partial<TrainJob> = {}): unknown => {
  try {
    readTrlJob(jobOf(parameters, more));
  } catch (error) {
    return error;
  }
  return null;
};

describe('parameters of the trainer trl', () => {
  it('spreads by ddp where there is more than one process, and by nothing else', () => {
    expect(readTrlJob(jobOf({})).distributed).toBe('none');
    expect(readTrlJob(jobOf({ processes: 2 })).distributed).toBe('ddp');
    expect(readTrlJob(jobOf({ processes: 4, distributed: 'deepspeed-zero3' })).distributed).toBe('deepspeed-zero3');
  });

  it.each([
    ['two processes that nothing connects', { processes: 2, distributed: 'none' }, 'distributed'],
    ['ddp of one process', { distributed: 'ddp' }, 'distributed'],
    ['a quantized base', { tuning: 'qlora' }, 'tuning'],
    ['a frozen base in bf16', { tuning: { kind: 'lora', base: 'bf16' } }, 'tuning.base'],
    ['checkpoints by tokens', { checkpoints: { everyTokens: 5 } }, 'checkpoints.everyTokens'],
    ['label smoothing that TRL ignores', { method: 'dpo', labelSmoothing: 0.1 }, 'parameters.labelSmoothing'],
    [
      'label smoothing that one of two losses ignores',
      { method: 'dpo', loss: ['robust', 'sigmoid'], labelSmoothing: 0.1 },
      'parameters.labelSmoothing',
    ],
    [
      'label smoothing with hinge of cpo',
      { method: 'cpo', loss: 'hinge', labelSmoothing: 0.1 },
      'parameters.labelSmoothing',
    ],
    ['a parameter of another method', { method: 'orpo', gamma: 1 }, 'parameters.gamma'],
    ['an unknown loss', { method: 'dpo', loss: 'kto_pair' }, 'parameters.loss'],
    ['several losses of a method with one', { method: 'kto', loss: ['kto', 'kto2'] }, 'parameters.loss'],
    ['weights of other losses', { method: 'dpo', loss: 'ipo', lossWeights: [1, 2] }, 'parameters.lossWeights'],
    ['the chosen answers twice', { method: 'dpo', loss: ['sigmoid', 'sft'] }, 'parameters.nllWeight'],
  ])('refuses %s by name', (_, parameters, where) => {
    expect(refusal(parameters)).toMatchObject({ code: 'CUPEL_TRL_CANNOT', where });
  });

  it('refuses replay, validation and extra logs, which TRL would leave out without a word', () => {
    expect(refusal({}, { replay: { rows: [], perStep: 2 } })).toMatchObject({ where: 'replay' });
    const validation = {
      metric: 'm',
      higherIsBetter: true,
      everySteps: 1,
      patience: null,
      measure: () => Promise.resolve(null),
    };
    expect(refusal({}, { validation })).toMatchObject({ where: 'validation' });
    expect(refusal({}, { logs: { tensorboard: true } })).toMatchObject({ where: 'logs' });
    expect(refusal({}, { logs: {} })).toBeNull();
  });

  it('does not go on from checkpoints that are pickles', () => {
    const parameters = { processes: 2, distributed: 'deepspeed-zero2' };
    expect(refusal(parameters)).toBeNull();
    expect(refusal(parameters, { resume: true })).toMatchObject({ code: 'CUPEL_TRL_CANNOT', where: 'resume' });
  });

  it('refuses what it does not know with a near name', () => {
    expect(refusal({ microBatchTokens: 5 })).toMatchObject({ code: 'CUPEL_FIELD_UNKNOWN' });
  });

  it.each(Object.keys(methods))('has the parameters and defaults of the native trainer %s', async (id) => {
    const { default: native } = (await import(`../../../trainers/${id}.ts`)) as {
      default: { options: { properties: Record<string, { default?: unknown }> } };
    };
    const method = methods[id];
    for (const [name, value] of Object.entries(method?.defaults ?? {})) {
      expect([name, native.options.properties[name]?.default]).toEqual([name, value]);
    }
    for (const name of Object.keys(method?.fields ?? {})) expect(native.options.properties).toHaveProperty(name);
  });

  it('writes the likelihood of chosen answers as a loss of its own, as the native dpo has it by default', () => {
    expect(methodOptions('dpo', {})).toMatchObject({ loss_type: ['sigmoid', 'sft'], loss_weights: [1, 1], beta: 0.1 });
    expect(methodOptions('dpo', { nllWeight: 0, loss: 'ipo' })).toMatchObject({
      loss_type: ['ipo'],
      loss_weights: [1],
    });
  });

  it('takes the likelihood term out of SimPO, which TRL adds unless it is told', () => {
    expect(methodOptions('simpo', {})).toMatchObject({ loss_type: 'simpo', cpo_alpha: 0, simpo_gamma: 1, beta: 2 });
  });

  it('knows which values depend on how a step is divided', () => {
    expect(dependsOnDivision('sft', {})).toBeNull();
    expect(dependsOnDivision('dpo', { nllWeight: 0 })).toBeNull();
    expect(dependsOnDivision('simpo', {})).toBeNull();
    expect(dependsOnDivision('dpo', {})).toContain('likelihood');
    expect(dependsOnDivision('dpo', { nllWeight: 0, loss: 'aot' })).toContain('aot');
    expect(dependsOnDivision('orpo', {})).toContain('orpo');
  });
});
