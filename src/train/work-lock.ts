import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Claim, claimOn, takeClaim } from '../kit/index.ts';
import { trainErrors } from './errors.ts';

const name = 'training';

interface Lock {
  release(): Promise<void>;
}

/**
 * Takes a work folder, and the name of the result, for one training; those of a dead process are taken over.
 * @throws CUPEL_TRAIN_WORK_IN_USE, CUPEL_TRAIN_CHECKPOINT_FAILED where nothing can be written there
 */
export async function lockTraining(work: string, output: string): Promise<Lock> {
  const own = await lock(work, join(work, name));
  try {
    const result = await lock(dirname(output), `${output}.partial`);
    return {
      async release() {
        await result.release();
        await own.release();
      },
    };
  } catch (error) {
    await own.release();
    throw error;
  }
}

async function lock(folder: string, path: string): Promise<Lock> {
  const claim = await mkdir(folder, { recursive: true })
    .then(() => takeClaim(path))
    .catch((cause: unknown) => {
      throw trainErrors.CUPEL_TRAIN_CHECKPOINT_FAILED({
        message: `nothing can be written there: ${(cause as Error).message}`,
        where: folder,
        cause,
      });
    });
  if ('taken' in claim) throw inUse(claim.taken);
  return claim;
}

/** For those who are about to remove a work folder. @throws CUPEL_TRAIN_WORK_IN_USE */
export async function refuseWorkInUse(work: string): Promise<void> {
  const taken = await claimOn(join(work, name));
  if (taken !== null) throw inUse(taken);
}

function inUse({ pid, host, file }: Claim): Error {
  return trainErrors.CUPEL_TRAIN_WORK_IN_USE({
    message: `process ${pid}${host === null ? '' : ` on ${host}`} is training here`,
    where: file,
  });
}
