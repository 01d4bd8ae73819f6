import { spawn } from 'node:child_process';
import { type FileHandle, open, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { trlErrors } from './errors.ts';
import { type ChildEvent, parseEvent } from './events.ts';
import { LineReader } from './line-reader.ts';

export interface ChildRun {
  /** Program and its arguments; no shell reads them. */
  readonly command: readonly [string, ...string[]];
  readonly environment: Readonly<Record<string, string>>;
  readonly eventsFile: string;
  readonly stopFile: string;
  /** Where both output streams go. */
  readonly logFile: string;
  /** Milliseconds between looks at the events file. */
  readonly pollMs?: number;
  /** Milliseconds that a child gets to end by itself after the stop file, and again after SIGTERM. */
  readonly graceMs?: number;
  /** Bytes of the log from which on it is emptied: a child that floods it does not fill the disk. */
  readonly logLimit?: number;
  /** Is told the process id, before anything is read. */
  readonly onStart?: (pid: number) => Promise<void>;
}

type CodedChildError = keyof typeof trlErrors.definitions & `CUPEL_TRL_${string}`;

/**
 * Runs a child process that reports by events in a file, and ends well only with exit code 0 and `done`. Its output
 * streams are full of progress bars and are kept as a log, nothing more. On abort, or where `onEvent` throws, the child
 * is stopped: by a file that it looks at after each step, then SIGTERM, then SIGKILL, to it and all that it started.
 * @throws the error that `onEvent` threw, the coded error that the child reported, CUPEL_TRL_FAILED, the abort reason
 */
export async function runChild(
  run: ChildRun,
  onEvent: (event: ChildEvent) => void,
  signal?: AbortSignal,
): Promise<Extract<ChildEvent, { event: 'done' }>> {
  signal?.throwIfAborted();
  await writeFile(run.eventsFile, '');
  const [log, events] = [await open(run.logFile, 'a+'), await open(run.eventsFile, 'r')];
  try {
    return await follow(run, log, events, onEvent, signal);
  } finally {
    await Promise.all([log.close(), events.close()]);
  }
}

async function follow(
  run: ChildRun,
  log: FileHandle,
  events: FileHandle,
  onEvent: (event: ChildEvent) => void,
  signal?: AbortSignal,
): Promise<Extract<ChildEvent, { event: 'done' }>> {
  const [program, ...rest] = run.command;
  const child = spawn(program, rest, {
    env: { ...run.environment },
    stdio: ['ignore', log.fd, log.fd],
    // A group of its own, so that what it starts can be ended with it.
    detached: true,
  });
  let ended = false;
  const exit = new Promise<{ code: number | null; cause?: unknown }>((resolve) => {
    child.once('error', (cause) => resolve({ code: null, cause }));
    child.once('exit', (code) => resolve({ code }));
  }).then((result) => {
    ended = true;
    // What it started and left behind would go on writing.
    endGroup(child.pid, 'SIGKILL');
    return result;
  });
  const grace = run.graceMs ?? 30_000;
  const stop = async (): Promise<void> => {
    // On a disk that is full the signals have to do.
    await writeFile(run.stopFile, '').catch(() => {});
    for (const name of ['SIGTERM', 'SIGKILL'] as const) {
      await Promise.race([exit, sleep(grace)]);
      if (ended) return;
      endGroup(child.pid, name);
    }
    await exit;
  };

  let done: Extract<ChildEvent, { event: 'done' }> | undefined;
  let greeted = false;
  const reported: Extract<ChildEvent, { event: 'error' }>[] = [];
  const reader = new LineReader(events, run.eventsFile);
  const drain = async (last: boolean): Promise<void> => {
    for await (const { text, where } of reader.lines(last)) {
      const event = parseEvent(text, where);
      if (event.event === 'error') {
        if (reported.length < 1000) reported.push(event);
        continue;
      }
      // What comes before it is of a world that nobody has checked, and after the end there is nothing to say.
      if ((event.event === 'hello') === greeted || done !== undefined) {
        throw trlErrors.CUPEL_TRL_EVENTS({ message: `event "${event.event}" out of its turn`, where });
      }
      greeted = true;
      if (event.event === 'done') done = event;
      onEvent(event);
    }
    if ((await log.stat()).size <= (run.logLimit ?? 64 * 1024 ** 2)) return;
    await log.truncate(0);
    await log.write('(earlier lines were removed: the log had become too long)\n');
  };
  try {
    if (child.pid !== undefined) await run.onStart?.(child.pid);
    while (!ended) {
      await Promise.race([exit, sleep(run.pollMs ?? 200)]);
      signal?.throwIfAborted();
      await drain(false);
    }
  } catch (error) {
    await stop();
    throw error;
  }
  const { code, cause } = await exit;
  await drain(true);
  if (reported.length > 0) throw reportedError(reported, run.logFile);
  if (code === 0 && done !== undefined) return done;
  throw trlErrors.CUPEL_TRL_FAILED({
    message:
      cause instanceof Error
        ? `${program} could not be started: ${cause.message}`
        : `the child ended with ${code === null ? 'a signal' : `exit code ${code}`}${code === 0 ? ' and without the event done' : ''}; its last lines: ${await lastLines(log)}`,
    where: run.logFile,
    cause,
  });
}

function reportedError(reported: readonly Extract<ChildEvent, { event: 'error' }>[], where: string): Error {
  // When one rank stops for a reason of its own, the others fail for want of it.
  const first = reported.find(({ code }) => code !== 'CUPEL_TRL_FAILED') ?? reported[0];
  const code = first?.code ?? '';
  const known = Object.hasOwn(trlErrors.definitions, code) ? (code as CodedChildError) : 'CUPEL_TRL_FAILED';
  return trlErrors[known]({ message: (first?.message ?? 'the child reported an error').slice(0, 2000), where });
}

function endGroup(pid: number | undefined, signal: 'SIGTERM' | 'SIGKILL'): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch (error) {
    // It ended in between.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

async function lastLines(log: FileHandle): Promise<string> {
  const { size } = await log.stat();
  const length = Math.min(size, 16_384);
  const { buffer, bytesRead } = await log.read(Buffer.alloc(length), 0, length, size - length);
  const lines = buffer.subarray(0, bytesRead).toString('utf8').trim().split('\n');
  return lines.slice(-3).join(' | ').slice(-400);
}
