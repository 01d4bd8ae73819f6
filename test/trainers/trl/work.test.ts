import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { refuseWorkInUse } from '../../../src/train/index.ts';
import { codedWrites, lockWork, removeTornCheckpoints } from '../../../trainers/trl/work.ts';

function temporary(): string {
  const folder = mkdtempSync(join(tmpdir(), 'cupel-trl-work-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

it('is one training at a time, for native trainers too, and leaves no lock behind', async () => {
  const folder = temporary();
  const job = { work: join(folder, 'work'), output: join(folder, 'out') };
  const lock = await lockWork(job);
  await expect(lockWork(job)).rejects.toMatchObject({ code: 'CUPEL_TRL_IN_USE' });
  await expect(lockWork({ work: null, output: job.output })).rejects.toMatchObject({ code: 'CUPEL_TRL_IN_USE' });
  await expect(refuseWorkInUse(job.work)).rejects.toMatchObject({ code: 'CUPEL_TRAIN_WORK_IN_USE' });
  await lock.release();
  await (await lockWork(job)).release();
  expect(readdirSync(job.work)).toEqual([]);
});

it('is not joined while a child of a dead host still trains, and is free when that has ended', async () => {
  const folder = temporary();
  const job = { work: join(folder, 'work'), output: join(folder, 'out') };
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
  const lock = await lockWork(job);
  await lock.claimForChild(child.pid ?? 0);
  // What a host that was killed leaves: the claims of its child, and its own, which is taken over.
  for (const place of [job.work, folder]) {
    for (const name of readdirSync(place)) if (name.includes(`.${process.pid}.`)) rmSync(join(place, name));
  }
  await expect(lockWork(job)).rejects.toMatchObject({
    code: 'CUPEL_TRL_IN_USE',
    message: `process ${child.pid} is training here`,
  });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
  await (await lockWork(job)).release();
});

it('goes on from the last checkpoint that was written to its end', async () => {
  const folder = temporary();
  const checkpoint = (name: string, state: string, random: readonly string[]): void => {
    mkdirSync(join(folder, name));
    writeFileSync(join(folder, name, 'trainer_state.json'), state);
    for (const file of random) writeFileSync(join(folder, name, file), '');
  };
  checkpoint('checkpoint-5', '{"global_step": 5}', ['rng_state_0.pth', 'rng_state_1.pth']);
  checkpoint('checkpoint-10', '{"global_step": 1', ['rng_state_0.pth', 'rng_state_1.pth']);
  checkpoint('checkpoint-15', '{"global_step": 15}', ['rng_state_0.pth']);
  checkpoint('checkpoint-20', 'null', ['rng_state_0.pth', 'rng_state_1.pth']);
  mkdirSync(join(folder, 'checkpoint-25'));
  await removeTornCheckpoints(folder, 2);
  expect(readdirSync(folder)).toEqual(['checkpoint-5']);
  await removeTornCheckpoints(join(folder, 'nowhere'), 2);
  expect(existsSync(join(folder, 'nowhere'))).toBe(false);
});

it('gives what the disk refuses a code, and other errors as they are', async () => {
  const file = join(temporary(), 'file');
  writeFileSync(file, '');
  const job = { work: join(file, 'work'), output: join(file, 'out') };
  await expect(codedWrites('out', () => lockWork(job))).rejects.toMatchObject({ code: 'CUPEL_TRL_WRITE' });
  await expect(codedWrites('out', () => Promise.reject(new Error('own')))).rejects.toThrow('own');
});
