import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { TrainEvent, TrainJob } from '../../src/contracts/index.ts';
import { refuseWorkInUse, trainServices } from '../../src/train/index.ts';
import { sftObjective } from '../../trainers/sft.ts';
import { baseRecipe, outputBytes, trainingJob } from './training-job.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cupel-lock-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const run = (job: TrainJob, sink: (event: TrainEvent) => void = () => {}) =>
  trainServices.run(job, sftObjective({ replayWeight: 1 }), baseRecipe, sink);
const host = hostname().replaceAll(/[^A-Za-z0-9-]/g, '-');

describe('a work folder', () => {
  it('is of one training at a time, and the one that has it is not disturbed', async () => {
    const job = trainingJob(join(folder, 'a'));
    const straight = trainingJob(join(folder, 'b'));
    const others: Promise<unknown>[] = [];
    await run(job, ({ type }) => {
      if (type !== 'checkpoint' || others.length > 0) return;
      others.push(
        expect(run({ ...job, output: join(folder, 'a', 'other'), resume: true })).rejects.toMatchObject({
          code: 'CUPEL_TRAIN_WORK_IN_USE',
          message: `process ${process.pid} is training here`,
          where: expect.stringContaining(join(folder, 'a', 'work')) as string,
        }),
        expect(refuseWorkInUse(job.work as string)).rejects.toMatchObject({ code: 'CUPEL_TRAIN_WORK_IN_USE' }),
      );
    });
    expect(others).toHaveLength(2);
    await Promise.all(others);
    await run(straight);
    expect(await outputBytes(job.output)).toEqual(await outputBytes(straight.output));
    await refuseWorkInUse(job.work as string);
    expect((await readdir(job.work as string)).filter((name) => name.endsWith('.lock'))).toEqual([]);
  });

  it('of its own does not help where another training makes the same checkpoint', async () => {
    const job = trainingJob(folder);
    const others: Promise<unknown>[] = [];
    await run(job, ({ type }) => {
      if (type !== 'checkpoint' || others.length > 0) return;
      others.push(
        expect(run({ ...job, work: join(folder, 'other') })).rejects.toMatchObject({ code: 'CUPEL_TRAIN_WORK_IN_USE' }),
      );
    });
    expect(others).toHaveLength(1);
    await Promise.all(others);
    expect((await readdir(folder)).sort()).toEqual(['other', 'out', 'work']);
    await expect(run({ ...job, work: join(folder, 'other') })).rejects.toMatchObject({
      code: 'CUPEL_TRAIN_OUTPUT_EXISTS',
    });
  });

  it('of a dead process is taken over', async () => {
    const job = trainingJob(folder);
    const { pid } = spawnSync(process.execPath, ['-e', '']);
    await mkdir(job.work as string);
    await writeFile(join(job.work as string, `training.${host}.${pid}.12345.lock`), '');
    expect((await run(job)).steps).toBe(9);
  });

  it('of another machine is left alone', async () => {
    const job = trainingJob(folder);
    await mkdir(job.work as string);
    await writeFile(join(job.work as string, 'training.elsewhere.1.12345.lock'), '');
    await expect(run(job)).rejects.toMatchObject({
      code: 'CUPEL_TRAIN_WORK_IN_USE',
      message: 'process 1 on elsewhere is training here',
    });
    expect(existsSync(job.output)).toBe(false);
  });

  it('that can not be written is refused by a code', async () => {
    await writeFile(join(folder, 'file'), '');
    await expect(run(trainingJob(folder, { work: join(folder, 'file', 'work') }))).rejects.toMatchObject({
      code: 'CUPEL_TRAIN_CHECKPOINT_FAILED',
    });
  });
});
