import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { LearnerOptions, StepShape, TrainEvent, TrainJob, TrainingRecord } from '../../src/contracts/index.ts';
import { trainServices } from '../../src/train/index.ts';
import sft from '../../trainers/sft.ts';
import { BigramLearner, byteModel, vocabularySize } from './byte-model.ts';
import { baseRecipe } from './training-job.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cupel-train-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const jobOf = (change: Partial<TrainJob> = {}): TrainJob => ({
  id: 'tiny',
  base: null,
  model: byteModel,
  openLearner: (options) => Promise.resolve(new BigramLearner(options)),
  openTeacher: null,
  services: trainServices,
  data: ['yes', 'no', 'maybe'].map((content, index) => ({
    id: `r${index}`,
    kind: 'messages',
    messages: [
      { role: 'user', content: 'q' },
      { role: 'assistant', content },
    ],
  })),
  replay: { rows: [{ id: 't', kind: 'text', text: 'old knowledge' }], perStep: 1 },
  parameters: { epochs: 2, batchSize: 2 },
  seed: 3,
  output: join(folder, 'out'),
  work: null,
  resume: false,
  validation: null,
  ...change,
});

describe('a training job', () => {
  it('writes the checkpoint with a record of how it came to be', async () => {
    const job = jobOf();
    const result = await sft.train(job, () => {});
    const record = JSON.parse(await readFile(join(job.output, 'cupel_run.json'), 'utf8')) as TrainingRecord;
    expect(record).toMatchObject({
      version: 1,
      trainer: 'sft@1.0.0',
      parent: 'sha256:bytes',
      seed: 3,
      steps: 4,
      trainedTokens: result.trainedTokens,
      metrics: result.metrics,
    });
    expect(record.dataDigest).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(existsSync(join(job.output, 'weights.bin'))).toBe(true);
    expect(existsSync(`${job.output}.partial`)).toBe(false);
  });

  it('plans what it then does, without writing', async () => {
    const job = jobOf();
    const plan = await sft.plan(job);
    expect(existsSync(job.output)).toBe(false);
    const result = await sft.train(job, () => {});
    expect(plan.steps).toBe(result.steps);
    expect(plan.tokens).toBe(result.trainedTokens);
    expect(plan.memoryBytes).toBeGreaterThan(16 * vocabularySize ** 2);
  });

  it('writes the same bytes twice, and records other data as other data', async () => {
    const read = async (job: TrainJob): Promise<[Buffer, TrainingRecord]> => {
      await sft.train(job, () => {});
      return [
        await readFile(join(job.output, 'weights.bin')),
        JSON.parse(await readFile(join(job.output, 'cupel_run.json'), 'utf8')) as TrainingRecord,
      ];
    };
    const [one, two] = [await read(jobOf()), await read(jobOf({ output: join(folder, 'again') }))];
    expect(one).toEqual(two);
    const other = await read(jobOf({ output: join(folder, 'other'), data: jobOf().data.slice(1) }));
    expect(other[1].dataDigest).not.toBe(one[1].dataDigest);
    expect(other[1].recipeDigest).toBe(one[1].recipeDigest);
  });

  it('leaves nothing behind when it is stopped', async () => {
    const job = jobOf();
    await expect(sft.train(job, () => {}, AbortSignal.abort())).rejects.toThrow(/abort|interrupt/i);
    expect(existsSync(job.output)).toBe(false);
  });

  it.each([
    ['no learner', { openLearner: null }, 'CUPEL_TRAIN_NO_LEARNER'],
    ['no services', { services: null }, 'CUPEL_TRAINER_NO_SERVICES'],
    ['a misspelt parameter', { parameters: { epoch: 2 } }, 'CUPEL_FIELD_UNKNOWN'],
    ['a parameter out of range', { parameters: { batchSize: 0 } }, 'CUPEL_FIELD_INVALID'],
  ] as const)('refuses %s', async (_, change, code) => {
    await expect(sft.train(jobOf(change), () => {})).rejects.toMatchObject({ code });
  });

  it('never writes over a checkpoint', async () => {
    await sft.train(jobOf(), () => {});
    await expect(sft.train(jobOf(), () => {})).rejects.toMatchObject({ code: 'CUPEL_TRAIN_OUTPUT_EXISTS' });
  });

  it('plans labelled tokens and the longest part of a step, and asks the engine what they take', async () => {
    const asked: unknown[] = [];
    const model = {
      ...byteModel,
      planLearner: (options: LearnerOptions, shape: StepShape) => {
        asked.push([options, shape]);
        const sizes = { parameters: 100, trainableParameters: 7, memoryBytes: 1000 };
        return Promise.resolve({ ...sizes, operationsPerToken: 1, secondsPerToken: 0.5 });
      },
    };
    const opened: unknown[] = [];
    const openLearner = (options: LearnerOptions): never => {
      opened.push(options);
      throw new Error('nothing is opened for a plan');
    };
    const parameters = { epochs: 2, batchSize: 2, maxSteps: 3, compute: 'bf16', tuning: { kind: 'lora', rank: 4 } };
    const plan = await sft.plan(jobOf({ model, openLearner, parameters, replay: null, work: null }));
    // Special tokens of user, assistant and their ends, "q", and what is answered; labelled: the answer and its end.
    const rows = [3, 2, 5].map((answer) => ({ tokens: 5 + answer, labelled: answer + 1 }));
    const total = (key: 'tokens' | 'labelled'): number => rows.reduce((sum, row) => sum + row[key], 0);
    expect(plan).toMatchObject({ steps: 3, parameters: 100, trainableParameters: 7, memoryBytes: 1000 });
    expect(plan.tokens).toBeGreaterThan(total('tokens'));
    expect(plan.tokens - plan.labelledTokens).toBe(5 * 5 - 5);
    expect(plan.seconds).toBe(plan.tokens * 0.5);
    expect(opened).toEqual([]);
    expect(asked).toEqual([
      [
        expect.objectContaining({
          compute: 'bf16',
          base: 'f32',
          adapter: { rank: 4, alpha: 8, seed: 3 },
          head: 'tokens',
        }),
        { tokens: expect.any(Number) as number, labelledTokens: expect.any(Number) as number, longestSequence: 10 },
      ],
    ]);
  });

  it('hands the same rows and steps to trainers that compute elsewhere', async () => {
    const job = jobOf();
    const { rows, replay } = await trainServices.prepare(
      job,
      { name: 'sft', sequences: 'answer' },
      { overlong: 'error', maxTokens: null, epochs: 2, batchSize: 2 },
      () => {},
    );
    expect(rows.map(({ id, sequences }) => [id, sequences[0]?.tokens.length])).toEqual([
      ['r0', 8],
      ['r1', 7],
      ['r2', 10],
    ]);
    expect(replay.map(({ id }) => id)).toEqual(['t']);
    const steps = trainServices.steps(
      { ...baseRecipe, epochs: 2, batchSize: 2, order: 'file', warmupSteps: 0, schedule: 'linear', learningRate: 1 },
      3,
      job.seed,
    );
    expect(steps).toEqual([
      { rows: [0, 1], learningRate: 1 },
      { rows: [2], learningRate: 0.75 },
      { rows: [0, 1], learningRate: 0.5 },
      { rows: [2], learningRate: 0.25 },
    ]);
  });

  it('shows examples as they are learned, and closes the learner whatever happens', async () => {
    let closed = 0;
    const open = (broken: boolean) => (options: LearnerOptions) => {
      const learner = new BigramLearner(options);
      learner.close = () => Promise.resolve(void closed++);
      if (broken) learner.step = () => Promise.reject(new Error('out of memory'));
      return Promise.resolve(learner);
    };
    const events: TrainEvent[] = [];
    await sft.train(jobOf({ openLearner: open(false) }), (event) => events.push(event));
    const shown = events.flatMap((event) => (event.type === 'example' ? [event.runs] : []));
    expect(shown.length).toBeGreaterThan(0);
    expect(shown[0]?.filter(({ trained }) => trained).map(({ text }) => text)).toEqual(['yes<|end|>']);
    await expect(
      sft.train(jobOf({ openLearner: open(true), output: join(folder, 'broken') }), () => {}),
    ).rejects.toThrow('out of memory');
    expect(closed).toBe(2);
    expect(existsSync(join(folder, 'broken'))).toBe(false);
  });
});
