import { readFileSync } from 'node:fs';
import { open, readdir, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';

/** A process that says it writes somewhere. */
export interface Claim {
  readonly pid: number;
  /** The machine it runs on; null: this one. */
  readonly host: string | null;
  readonly file: string;
}

/**
 * Puts down the file `<path>.<host>.<pid>.<start>.lock`, one for each process, and then looks at those of the others:
 * of two processes that start at once at least one sees the other and yields (it may be both), and no claim ever has to
 * be taken from its owner. Claims of dead processes of this machine are removed; `start` tells a reused pid from the
 * process that had it. A claim of another machine counts as alive. The folder exists already.
 * @returns what takes the claim back, or the claim that stands in the way
 */
export async function takeClaim(path: string): Promise<{ release(): Promise<void> } | { readonly taken: Claim }> {
  const own = claimFile(path, process.pid);
  try {
    await (await open(own, 'wx')).close();
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause;
    return { taken: { pid: process.pid, host: null, file: own } };
  }
  const release = (): Promise<void> => rm(own, { force: true });
  const taken = await otherClaim(path, own);
  if (taken === null) return { release };
  await release();
  return { taken };
}

/**
 * Puts down a claim in the name of a process that was started from here, which may outlive this one.
 * @returns what takes it back
 */
export async function claimFor(path: string, pid: number): Promise<{ release(): Promise<void> }> {
  const file = claimFile(path, pid);
  await (await open(file, 'w')).close();
  return { release: () => rm(file, { force: true }) };
}

function claimFile(path: string, pid: number): string {
  return join(dirname(path), `${basename(path)}.${thisHost()}.${pid}.${startOf(pid) ?? 0}.lock`);
}

/** The claim of a living process on `path`, or null; this process counts too. Claims of dead ones are removed. */
export function claimOn(path: string): Promise<Claim | null> {
  return otherClaim(path, null);
}

async function otherClaim(path: string, own: string | null): Promise<Claim | null> {
  const folder = dirname(path);
  const prefix = `${basename(path)}.`;
  for (const name of await readdir(folder).catch(() => [] as string[])) {
    const file = join(folder, name);
    if (file === own || !name.startsWith(prefix) || !name.endsWith('.lock')) continue;
    const [host = '', pid, start] = name.slice(prefix.length, -'.lock'.length).split('.');
    if (host !== thisHost()) return { pid: Number(pid), host, file };
    if (isAlive(Number(pid), Number(start))) return { pid: Number(pid), host: null, file };
    await rm(file, { force: true });
  }
  return null;
}

function thisHost(): string {
  return hostname().replaceAll(/[^A-Za-z0-9-]/g, '-');
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
