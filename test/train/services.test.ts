import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { TrainJob, TrainingRecord } from '../../src/contracts/index.ts';
import { trainServices } from '../../src/train/index.ts';
import sft from '../../trainers/sft.ts';
import { BigramLearner, byteModel, vocabularySize } from './byte-model.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cupel-train-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const jobOf = (change: Partial<TrainJob> = {}): TrainJob => ({
  id: 'tiny',
  base: null,
  model: byteModel,
  learner: new BigramLearner(),
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
    ['no learner', { learner: null }, 'CUPEL_TRAIN_NO_LEARNER'],
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
});
