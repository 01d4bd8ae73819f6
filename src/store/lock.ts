import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { takeClaim } from '../kit/index.ts';
import { storeErrors } from './errors.ts';

export interface Lock {
  release(): Promise<void>;
}

/**
 * Takes the single-writer lock named `path`.
 * @throws CUPEL_STORE_LOCKED naming the process and the file.
 */
export async function acquireLock(path: string): Promise<Lock> {
  const folder = dirname(path);
  await mkdir(folder, { recursive: true });
  const claim = await takeClaim(path).catch((cause: unknown) => {
    throw storeErrors.CUPEL_STORE_WRITE_FAILED({
      message: `the lock could not be written: ${(cause as Error).message}`,
      where: folder,
      cause,
    });
  });
  if (!('taken' in claim)) return claim;
  const { pid, host, file } = claim.taken;
  throw storeErrors.CUPEL_STORE_LOCKED({
    message: `process ${pid}${host === null ? '' : ` on ${host}`} is writing here`,
    where: file,
  });
}
