import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Recipe, TrainEvent, TrainingRecord, TrainJob, TrainValidation } from '../../src/contracts/index.ts';
import { sha256File } from '../../src/kit/index.ts';
import { trainServices } from '../../src/train/index.ts';
import { sftObjective } from '../../trainers/sft.ts';
import { BigramLearner } from './byte-model.ts';
import { baseRecipe, outputBytes, readLog, stopAfter, trainingJob } from './training-job.ts';

const sft = sftObjective({ replayWeight: 1 });

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cupel-validation-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** Gives these values one after another, and keeps the digests of what was measured. */
function validationOf(values: readonly (number | null)[], change: Partial<TrainValidation> = {}) {
  const measured: string[] = [];
  const validation: TrainValidation = {
    metric: 'tickets/correct',
    higherIsBetter: true,
    everySteps: 2,
    patience: null,
    async measure(path) {
      measured.push(await sha256File(join(path, 'weights.bin')));
      return values[measured.length - 1] ?? null;
    },
    ...change,
  };
  return { validation, measured };
}

async function run(job: TrainJob, recipe: Partial<Recipe> = {}, signal?: AbortSignal) {
  const events: TrainEvent[] = [];
  const sink = (event: TrainEvent): void => void events.push(event);
  const result = await trainServices.run(job, sft, { ...baseRecipe, checkpoints: null, ...recipe }, sink, signal);
  const validations = events.flatMap((event) =>
    event.type === 'validation' ? [[event.step, event.value, event.best]] : [],
  );
  return { result, events, validations };
}
const record = async (output: string): Promise<TrainingRecord> =>
  JSON.parse(await readFile(join(output, 'cupel_run.json'), 'utf8')) as TrainingRecord;

describe('validation while training', () => {
  it('ends with the weights that measured best, byte for byte, the last step included', async () => {
    const { validation, measured } = validationOf([0.2, 0.6, null, 0.6, 0.5]);
    const job = trainingJob(folder, { validation });
    const { result, validations } = await run(job);
    expect(validations).toEqual([
      [2, 0.2, true],
      [4, 0.6, true],
      [6, null, false],
      [8, 0.6, false],
      [9, 0.5, false],
    ]);
    expect(result).toMatchObject({ steps: 9, bestStep: 4 });
    expect(await sha256File(join(job.output, 'weights.bin'))).toBe(measured[1]);
    expect(measured[1]).not.toBe(measured[4]);
    expect(await record(job.output)).toMatchObject({
      bestStep: 4,
      validation: { metric: 'tickets/correct', value: 0.6 },
    });
    expect(existsSync(join(folder, 'work', 'snapshots'))).toBe(false);
    expect((await readLog(folder + '/work')).filter(({ type }) => type === 'validation')).toHaveLength(5);
  });

  it('takes the lowest where lower is better', async () => {
    const { validation } = validationOf([0.2, 0.1, 0.3, 0.4, 0.5], { higherIsBetter: false });
    expect((await run(trainingJob(folder, { validation }))).result.bestStep).toBe(4);
  });

  it('stops when nothing better came for long enough', async () => {
    const { validation } = validationOf([0.5, 0.4, null, 0.9], { patience: 2 });
    const { result } = await run(trainingJob(folder, { validation }));
    expect(result).toMatchObject({ steps: 6, bestStep: 2 });
    expect(result.losses).toHaveLength(6);
  });

  it('ends with the last weights where nothing could be measured, and never loses a training to a measurement', async () => {
    const { validation } = validationOf([], {
      measure: () => Promise.reject(new Error('the suite has no cases')),
      patience: 1,
    });
    const job = trainingJob(folder, { validation });
    const { result, events, validations } = await run(job);
    expect(result.bestStep).toBeUndefined();
    expect(result.steps).toBe(9);
    expect(validations.every(([, value, best]) => value === null && best === false)).toBe(true);
    expect(events).toContainEqual({
      type: 'warning',
      code: 'CUPEL_TRAIN_NOT_MEASURED',
      message: 'step 2: the suite has no cases',
    });
    const plain = trainingJob(join(folder, 'plain'));
    await run(plain);
    expect(await sha256File(join(job.output, 'weights.bin'))).toBe(await sha256File(join(plain.output, 'weights.bin')));
  });

  it('leaves no folder behind where none was given to keep', async () => {
    const { validation } = validationOf([1, 2, 3, 4, 5]);
    const job = trainingJob(folder, { validation, work: null });
    await run(job);
    expect(await readdir(folder)).toEqual(['out']);
  });

  it('goes on with what was measured before, and measures what was interrupted', async () => {
    const values = [0.2, 0.9, 0.1, 0.4, 0.5];
    const straight = trainingJob(join(folder, 'straight'), { validation: validationOf(values).validation });
    await run(straight, { checkpoints: { everySteps: 3, keep: 1 } });
    for (const step of [2, 5, 8]) {
      const { signal, sink } = stopAfter(step);
      const byStep = new Map([2, 4, 6, 8, 9].map((at, index) => [at, values[index] ?? null]));
      const validation: TrainValidation = {
        ...validationOf([]).validation,
        measure: (path) => Promise.resolve(byStep.get(Number(/step-(\d+)/.exec(path)?.[1])) ?? null),
      };
      const job = trainingJob(join(folder, `at-${step}`), { validation });
      const recipe = { ...baseRecipe, checkpoints: { everySteps: 3, keep: 1 } };
      await expect(trainServices.run(job, sft, recipe, sink, signal)).rejects.toThrow('stopped');
      const { result } = await run({ ...job, resume: true }, { checkpoints: { everySteps: 3, keep: 1 } });
      expect(result.bestStep).toBe(4);
      expect(await outputBytes(job.output)).toEqual(await outputBytes(straight.output));
    }
  });

  it('keeps the checkpoint of the best step beside the newest', async () => {
    const { validation } = validationOf([0.9, 0.2, 0.1, 0.3, 0.4]);
    const job = trainingJob(folder, { validation });
    await run(job, { checkpoints: { everySteps: 2, keep: 1 } });
    expect((await readdir(join(folder, 'work', 'checkpoints'))).sort()).toEqual(['step-2', 'step-8']);
  });
});

describe('a measured run that goes on', () => {
  it.each([
    ['another metric', { metric: 'tickets/tone' }],
    ['the other direction', { higherIsBetter: false }],
    ['another cadence', { everySteps: 3 }],
    ['another patience', { patience: 1 }],
    ['no measurements', null],
  ] as const)('refuses %s: its best would be compared with something else', async (_, change) => {
    const job = trainingJob(folder, { validation: validationOf([0.9]).validation });
    const { signal, sink } = stopAfter(3);
    const recipe = { ...baseRecipe, checkpoints: null };
    await expect(trainServices.run(job, sft, recipe, sink, signal)).rejects.toThrow('stopped');
    const validation = change === null ? null : validationOf([0.1, 0.2, 0.3], change).validation;
    await expect(run({ ...job, validation, resume: true })).rejects.toMatchObject({
      code: 'CUPEL_TRAIN_RESUME_RECIPE',
    });
  });

  it('stops early as it would have, when it was interrupted in the step that decides', async () => {
    const values = [0.5, 0.4, 0.3, 0.9];
    const straight = trainingJob(join(folder, 'straight'), {
      validation: validationOf(values, { patience: 2 }).validation,
    });
    const { result: expected } = await run(straight);
    expect(expected).toMatchObject({ steps: 6, bestStep: 2 });
    const byStep = new Map([2, 4, 6, 8].map((at, index) => [at, values[index] ?? null]));
    const controller = new AbortController();
    const { validation } = validationOf([], {
      patience: 2,
      measure: (path) => {
        const step = Number(/step-(\d+)/.exec(path)?.[1]);
        if (step === 6) controller.abort(new Error('stopped'));
        return Promise.resolve(byStep.get(step) ?? null);
      },
    });
    const job = trainingJob(join(folder, 'stopped'), { validation });
    await expect(run(job, {}, controller.signal)).rejects.toThrow('stopped');
    expect((await run({ ...job, resume: true })).result).toEqual(expected);
    expect(await outputBytes(job.output)).toEqual(await outputBytes(straight.output));
  });

  it('is not lost to a snapshot that does not fit on the disk', async () => {
    const { validation } = validationOf([0.5, 0.6, 0.7, 0.8]);
    const job = trainingJob(folder, { validation }, (options) => {
      const learner = new BigramLearner({ ...options, scale: 0.3 });
      const save = learner.save.bind(learner);
      learner.save = async (path, how) => {
        await save(path, how);
        if (path.includes('step-4')) throw new Error('ENOSPC: no space left on device, write');
      };
      return learner;
    });
    const { result, events, validations } = await run(job);
    expect(result).toMatchObject({ steps: 9, bestStep: 9 });
    expect(validations[1]).toEqual([4, null, false]);
    expect(events).toContainEqual({
      type: 'warning',
      code: 'CUPEL_TRAIN_NOT_MEASURED',
      message: 'step 4: ENOSPC: no space left on device, write',
    });
  });
});

describe('adapters', () => {
  const tuning = { kind: 'lora', rank: 2, alpha: 4 } as const;

  it('are saved merged or alone, as the recipe says', async () => {
    const [merged, alone] = [trainingJob(join(folder, 'a')), trainingJob(join(folder, 'b'))];
    await run(merged, { tuning });
    await run(alone, { tuning: { ...tuning, save: 'adapter' } });
    expect(await outputBytes(merged.output)).not.toEqual(await outputBytes(alone.output));
  });

  it('are measured merged, and still saved alone', async () => {
    const { validation, measured } = validationOf([0.1, 0.2, 0.3, 0.4, 0.5]);
    const job = trainingJob(join(folder, 'a'), { validation });
    await run(job, { tuning: { ...tuning, save: 'adapter' } });
    const plain = trainingJob(join(folder, 'b'));
    await run(plain, { tuning: { ...tuning, save: 'adapter' } });
    expect((await outputBytes(job.output))[0]).toBe((await outputBytes(plain.output))[0]);
    expect(measured.at(-1)).not.toBe((await outputBytes(job.output))[0]);
  });

  it.each([
    ['says what it was trained as', false],
    ['says something else', true],
  ])('are compared with the saved model: it %s', async (_, damaged) => {
    const job = trainingJob(folder, {
      openSaved: async (path) => {
        const saved = new BigramLearner();
        saved.weights.set(new Float64Array(new Uint8Array(await readFile(join(path, 'weights.bin'))).buffer));
        if (damaged) saved.weights.fill(0);
        return saved;
      },
    });
    const { result, events } = await run(job, { tuning });
    const difference = result.metrics['merge_difference'] ?? NaN;
    if (damaged) expect(difference).toBeGreaterThan(0.1);
    else expect(difference).toBeLessThan(1e-6);
    const codes = events.map((event) => event.type === 'warning' && event.code);
    expect(codes.includes('CUPEL_TRAIN_MERGE_DIFFERS')).toBe(damaged);
    expect(existsSync(job.output)).toBe(true);
  });
});
