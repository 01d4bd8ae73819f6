import { mkdir, readFile, truncate } from 'node:fs/promises';
import { dirname } from 'node:path';
import { canonicalJson } from '../kit/index.ts';
import { AppendFile } from './append-file.ts';
import { formatCheckedLine, parseCheckedLines } from './checked-lines.ts';
import { storeErrors } from './errors.ts';
import { acquireLock } from './lock.ts';

export interface JournalEntry {
  readonly step: string;
  readonly inputDigest: string;
  /** JSON. */
  readonly result: unknown;
}

/** What a pipeline has finished. A step is found again only with the same input digest: changed input is done anew. */
export interface Journal {
  /** Last entry of each step, in the order of their first finish. */
  readonly entries: readonly JournalEntry[];
  readonly torn: number;
  find(step: string, inputDigest: string): JournalEntry | null;
  /**
   * Gives the recorded result of a step, or does the work and records it; on the disk before this returns.
   * The work must be safe to repeat: a kill between its end and the record repeats it.
   * @param options.holds asked before a recorded result is reused, e.g. whether its files still exist.
   */
  perform<T>(
    step: string,
    inputDigest: string,
    work: () => Promise<T>,
    options?: { readonly holds?: (result: T) => Promise<boolean> },
  ): Promise<{ readonly result: T; readonly skipped: boolean }>;
  close(): Promise<void>;
}

/** Opens a step journal, an append-only file; one process at a time. @throws CUPEL_STORE_LOCKED, _LINE_CORRUPT, _WRITE_FAILED */
export async function openJournal(file: string): Promise<Journal> {
  await mkdir(dirname(file), { recursive: true }).catch((cause: unknown) => {
    throw storeErrors.CUPEL_STORE_WRITE_FAILED({ message: (cause as Error).message, where: file, cause });
  });
  const lock = await acquireLock(file);
  try {
    const bytes = await readFile(file).catch((cause: unknown) => {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return Buffer.alloc(0);
      throw storeErrors.CUPEL_STORE_WRITE_FAILED({ message: (cause as Error).message, where: file, cause });
    });
    const lines = parseCheckedLines(bytes, file);
    if (lines.torn > 0) await truncate(file, lines.validBytes);
    const steps = new Map<string, JournalEntry>();
    for (const value of lines.values) steps.set((value as JournalEntry).step, value as JournalEntry);
    const target = new AppendFile(file);
    const find = (step: string, inputDigest: string): JournalEntry | null => {
      const entry = steps.get(step);
      return entry?.inputDigest === inputDigest ? entry : null;
    };
    return {
      get entries() {
        return [...steps.values()];
      },
      torn: lines.torn,
      find,
      async perform<T>(
        step: string,
        inputDigest: string,
        work: () => Promise<T>,
        options?: { readonly holds?: (result: T) => Promise<boolean> },
      ) {
        const known = find(step, inputDigest);
        if (known !== null && (options?.holds === undefined || (await options.holds(known.result as T)))) {
          return { result: known.result as T, skipped: true };
        }
        // As it will be read back: a first pass and a resumed one get the same value.
        const result = JSON.parse(canonicalJson((await work()) ?? null)) as T;
        const entry = { step, inputDigest, result };
        await target.append(formatCheckedLine(entry), 1);
        steps.set(step, entry);
        return { result, skipped: false };
      },
      async close() {
        await target.close();
        await lock.release();
      },
    };
  } catch (error) {
    await lock.release();
    throw error;
  }
}
