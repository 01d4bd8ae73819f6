import { readFileSync } from 'node:fs';
import { mkdir, open, readdir, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { storeErrors } from './errors.ts';

export interface Lock {
  release(): Promise<void>;
}

/**
 * Takes the single-writer lock named `path`. The claim is a file `<path>.<host>.<pid>.<start>.lock` of its own for each
 * process, put down before the others are looked at: of two that start at once, at least one sees the other and yields
 * (it may be both), and no claim ever has to be taken from its owner. Claims of dead processes of this machine are
 * removed; `start` tells a reused pid from the process that had it. A claim of another machine counts as alive.
 * @throws CUPEL_STORE_LOCKED naming the process and the file.
 */
export async function acquireLock(path: string): Promise<Lock> {
  const folder = dirname(path);
  await mkdir(folder, { recursive: true });
  const prefix = `${basename(path)}.`;
  const host = hostname().replaceAll(/[^A-Za-z0-9-]/g, '-');
  const own = `${prefix}${host}.${process.pid}.${startOf(process.pid) ?? 0}.lock`;
  try {
    await (await open(join(folder, own), 'wx')).close();
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EEXIST') throw locked(process.pid, join(folder, own));
    throw storeErrors.CUPEL_STORE_WRITE_FAILED({
      message: `the lock could not be written: ${(cause as Error).message}`,
      where: folder,
      cause,
    });
  }
  const release = async (): Promise<void> => rm(join(folder, own), { force: true });
  for (const name of await readdir(folder)) {
    if (name === own || !name.startsWith(prefix) || !name.endsWith('.lock')) continue;
    const [otherHost, pid, start] = name.slice(prefix.length, -'.lock'.length).split('.');
    if (otherHost === host && !isAlive(Number(pid), Number(start))) {
      await rm(join(folder, name), { force: true });
      continue;
    }
    await release();
    throw locked(Number(pid), join(folder, name), otherHost === host ? undefined : otherHost);
  }
  return { release };
}

function locked(pid: number, file: string, host?: string): Error {
  return storeErrors.CUPEL_STORE_LOCKED({
    message: `process ${pid}${host === undefined ? '' : ` on ${host}`} is writing here`,
    where: file,
  });
}

function isAlive(pid: number, start: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
  } catch (cause) {
    // EPERM: it lives, but belongs to somebody else.
    if ((cause as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  const seen = startOf(pid);
  return seen === null || start === 0 || seen === start;
}

/** Start of a process in clock ticks since boot (Linux, /proc/<pid>/stat field 22); null where that is not known. */
function startOf(pid: number): number | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The command in field 2 may hold spaces and parentheses; fields are counted from its end. A zombie writes no more.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? -1 : Number(fields[19]);
  } catch {
    return null;
  }
}
