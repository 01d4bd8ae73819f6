import type { CupelError } from '../kit/index.ts';
import { runErrors } from './errors.ts';

/** A function, because the answer changes between two questions. */
export function isAborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true;
}

export function interrupted(done: number, total: number, where: string): CupelError {
  return runErrors.CUPEL_RUN_INTERRUPTED({
    message: `interrupted after ${done} of ${total} rows, which are kept`,
    where,
  });
}
