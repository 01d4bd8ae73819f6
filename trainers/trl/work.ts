import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { TrainJob } from '../../src/contracts/index.ts';
import { type Claim, claimFor, isCupelError, takeClaim } from '../../src/kit/index.ts';
import { trlErrors } from './errors.ts';

/** What a training holds while it runs. */
export interface WorkLock {
  /** Claims the work for the child too: where this process is killed the child goes on, and must not be joined. */
  readonly claimForChild: (pid: number) => Promise<void>;
  readonly release: () => Promise<void>;
}

/**
 * Takes the work folder, and the name of the result, for one training, by the claims that the native trainers take.
 * @throws CUPEL_TRL_IN_USE
 */
export async function lockWork(job: Pick<TrainJob, 'work' | 'output'>): Promise<WorkLock> {
  const paths = [...(job.work === null ? [] : [join(job.work, 'training')]), `${job.output}.partial`];
  const held: { release(): Promise<void> }[] = [];
  const release = async (): Promise<void> => {
    for (const claim of held) await claim.release();
  };
  for (const path of paths) {
    await mkdir(dirname(path), { recursive: true });
    const claim = await takeClaim(path);
    if ('taken' in claim) {
      await release();
      throw inUse(claim.taken);
    }
    held.push(claim);
  }
  return {
    release,
    claimForChild: async (pid) => {
      for (const path of paths) held.push(await claimFor(path, pid));
    },
  };
}

function inUse({ pid, host, file }: Claim): Error {
  return trlErrors.CUPEL_TRL_IN_USE({
    message: `process ${pid}${host === null ? '' : ` on ${host}`} is training here`,
    where: file,
  });
}

/**
 * Removes checkpoints that were not written to their end, so that a run goes on from the last whole one. What
 * transformers writes last is trainer_state.json; beside it every process leaves its random numbers.
 */
export async function removeTornCheckpoints(folder: string, processes: number): Promise<void> {
  for (const name of await readdir(folder).catch(() => [] as string[])) {
    const step = /^checkpoint-(\d+)$/.exec(name)?.[1];
    if (step === undefined || (await isWhole(join(folder, name), Number(step), processes))) continue;
    await rm(join(folder, name), { recursive: true, force: true });
  }
}

async function isWhole(folder: string, step: number, processes: number): Promise<boolean> {
  const random =
    processes === 1 ? ['rng_state.pth'] : Array.from({ length: processes }, (_, process) => `rng_state_${process}.pth`);
  if (!random.every((name) => existsSync(join(folder, name)))) return false;
  try {
    const state: unknown = JSON.parse(await readFile(join(folder, 'trainer_state.json'), 'utf8'));
    return (state as { global_step?: unknown } | null)?.global_step === step;
  } catch {
    return false;
  }
}

const unwritable = new Set([
  'ENOSPC',
  'EDQUOT',
  'EACCES',
  'EPERM',
  'EROFS',
  'EIO',
  'ENOTDIR',
  'EEXIST',
  'ENAMETOOLONG',
]);

/** Gives what the file system refuses while a training runs a code of its own. @throws CUPEL_TRL_WRITE */
export async function codedWrites<T>(where: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    const { code, path, message } = cause as NodeJS.ErrnoException;
    if (isCupelError(cause) || code === undefined || !unwritable.has(code)) throw cause;
    throw trlErrors.CUPEL_TRL_WRITE({ message, where: path ?? where, cause });
  }
}
