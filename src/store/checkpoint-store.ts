import { randomBytes } from 'node:crypto';
import { copyFile, mkdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { CheckpointStore, PromotionEntry } from '../contracts/index.ts';
import { digestFolder, digestOf, listFileDigests, writeFileAtomic } from '../kit/index.ts';
import { formatCheckedLine, parseCheckedLines } from './checked-lines.ts';
import { storeErrors } from './errors.ts';
import { acquireLock } from './lock.ts';

export interface StoredCheckpointStore extends CheckpointStore {
  /** Absolute path of the checkpoint folder of an entry; entries hold it relative to the store, so that a store can be moved. */
  locate(entry: PromotionEntry): string;
  /** Digests every object that a channel's history names. @throws CUPEL_STORE_CHECKPOINT_CHANGED, _HISTORY_BROKEN */
  verify(channel: string): Promise<void>;
}

/**
 * `<directory>/objects/<hex digest>/` are checkpoint folders, `<directory>/channels/<name>.jsonl` the histories: chains
 * in which each entry names the digest of the one before. What is current is the last entry; files change by rename,
 * so a crash leaves the old or the new history.
 */
export function openCheckpointStore(directory: string): StoredCheckpointStore {
  const objectPath = (digest: string): string => `objects/${digest.replace(/^sha256:/, '')}`;
  const channelFile = (channel: string): string => {
    if (!/^[a-z0-9][a-z0-9._-]{0,63}$/.test(channel)) {
      throw storeErrors.CUPEL_STORE_CHANNEL_INVALID({
        message: `${JSON.stringify(channel)} cannot be the name of a channel`,
        where: directory,
      });
    }
    return join(directory, 'channels', `${channel}.jsonl`);
  };
  const history = async (channel: string): Promise<readonly PromotionEntry[]> => readHistory(channelFile(channel));

  const change = async (
    channel: string,
    next: (
      entries: readonly PromotionEntry[],
    ) => Promise<Omit<PromotionEntry, 'sequence' | 'previous'> | PromotionEntry>,
  ): Promise<PromotionEntry> => {
    const file = channelFile(channel);
    const lock = await acquireLock(file);
    try {
      const entries = await readHistory(file);
      const wanted = await next(entries);
      const last = entries.at(-1);
      if (last !== undefined && wanted === last) return last;
      const entry: PromotionEntry = {
        ...wanted,
        sequence: entries.length + 1,
        previous: last === undefined ? null : digestOf(last),
      };
      await writeFileAtomic(file, [...entries, entry].map(formatCheckedLine).join(''));
      return entry;
    } finally {
      await lock.release();
    }
  };

  const checkObject = async (digest: string): Promise<void> => {
    const path = join(directory, objectPath(digest));
    const isFolder = await stat(path).then(
      (found) => found.isDirectory(),
      () => false,
    );
    if (!isFolder || !/^sha256:[0-9a-f]{64}$/.test(digest)) {
      throw storeErrors.CUPEL_STORE_CHECKPOINT_INVALID({ message: `${digest} is not in the store`, where: path });
    }
    const seen = await digestFolder(path);
    if (seen !== digest)
      throw storeErrors.CUPEL_STORE_CHECKPOINT_CHANGED({ message: `the files now give ${seen}`, where: path });
  };

  return {
    async add(folder) {
      const files = await listFileDigests(folder).catch((cause: unknown) => {
        throw storeErrors.CUPEL_STORE_CHECKPOINT_INVALID({
          message: `the folder could not be read: ${(cause as Error).message}`,
          where: folder,
          cause,
        });
      });
      const single = (await stat(folder)).isFile();
      if (files.length === 0)
        throw storeErrors.CUPEL_STORE_CHECKPOINT_INVALID({ message: 'the folder holds no file', where: folder });
      const digest = digestOf(files);
      const path = join(directory, objectPath(digest));
      if (
        await stat(path).then(
          () => true,
          () => false,
        )
      ) {
        await checkObject(digest);
        return { digest, path };
      }
      const temporary = join(directory, 'objects', `.incoming-${randomBytes(6).toString('hex')}`);
      try {
        for (const file of files) {
          await mkdir(dirname(join(temporary, file.path)), { recursive: true });
          await copyFile(single ? folder : join(folder, file.path), join(temporary, file.path));
        }
        // The copy is digested, not the source: what changed while it was copied must not get the name of what was there.
        const copied = await digestFolder(temporary);
        if (copied !== digest)
          throw storeErrors.CUPEL_STORE_CHECKPOINT_INVALID({
            message: 'the folder changed while it was copied',
            where: folder,
          });
        await rename(temporary, path);
      } catch (error) {
        await rm(temporary, { recursive: true, force: true });
        const code = (error as NodeJS.ErrnoException).code;
        // Somebody else was faster with the same bytes.
        if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error;
        await checkObject(digest);
      }
      return { digest, path };
    },

    async current(channel) {
      return (await history(channel)).at(-1) ?? null;
    },

    history,

    promote(channel, wanted) {
      return change(channel, async (entries) => {
        if (wanted.action !== 'promote') {
          throw storeErrors.CUPEL_STORE_CHECKPOINT_INVALID({
            message: `the action is ${JSON.stringify(wanted.action)}; rollback has its own method`,
            where: channel,
          });
        }
        const { id, digest } = wanted.checkpoint;
        await checkObject(digest);
        const last = entries.at(-1);
        // Asking again for what is current, on the same evidence, is a pipeline that resumes: nothing is added.
        if (
          last?.action === 'promote' &&
          last.checkpoint.id === id &&
          last.checkpoint.digest === digest &&
          last.verdictDigest === wanted.verdictDigest &&
          last.evidence === wanted.evidence
        )
          return last;
        return {
          action: 'promote',
          checkpoint: { id, digest, path: objectPath(digest) },
          verdictDigest: wanted.verdictDigest,
          evidence: wanted.evidence,
        };
      });
    },

    rollback(channel) {
      return change(channel, async (entries) => {
        const earlier = standing(entries).at(-2);
        if (earlier === undefined) {
          throw storeErrors.CUPEL_STORE_NOTHING_TO_ROLL_BACK({
            message: `channel ${channel} has ${entries.length === 0 ? 'no entry' : 'no earlier checkpoint'}`,
            where: channelFile(channel),
          });
        }
        await checkObject(earlier.checkpoint.digest);
        return {
          action: 'rollback',
          checkpoint: earlier.checkpoint,
          verdictDigest: earlier.verdictDigest,
          evidence: earlier.evidence,
        };
      });
    },

    locate: (entry) => join(directory, objectPath(entry.checkpoint.digest)),

    async verify(channel) {
      for (const digest of new Set((await history(channel)).map((entry) => entry.checkpoint.digest)))
        await checkObject(digest);
    },
  };
}

/** Promotions that still stand: each rollback takes back the last of them. */
function standing(entries: readonly PromotionEntry[]): PromotionEntry[] {
  const stack: PromotionEntry[] = [];
  for (const entry of entries) {
    if (entry.action === 'rollback') stack.pop();
    else stack.push(entry);
  }
  return stack;
}

async function readHistory(file: string): Promise<PromotionEntry[]> {
  const bytes = await readFile(file).catch((cause: unknown) => {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return Buffer.alloc(0);
    throw storeErrors.CUPEL_STORE_HISTORY_BROKEN({
      message: `the history could not be read: ${(cause as Error).message}`,
      where: file,
      cause,
    });
  });
  const lines = parseCheckedLines(bytes, file);
  if (lines.torn > 0)
    throw storeErrors.CUPEL_STORE_HISTORY_BROKEN({
      message: 'the last line is not whole',
      where: `${file}:${lines.values.length + 1}`,
    });
  const entries = lines.values as PromotionEntry[];
  let previous: PromotionEntry | null = null;
  for (const [index, entry] of entries.entries()) {
    const expected: string | null = previous === null ? null : digestOf(previous);
    if (entry.sequence !== index + 1 || entry.previous !== expected) {
      throw storeErrors.CUPEL_STORE_HISTORY_BROKEN({
        message: `entry ${index + 1} has sequence ${entry.sequence} and names ${entry.previous ?? 'none'} before it, but before it is ${expected ?? 'none'}`,
        where: `${file}:${index + 1}`,
      });
    }
    previous = entry;
  }
  return entries;
}
