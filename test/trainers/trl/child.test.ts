import { mkdtemp, readFile, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { type ChildRun, runChild } from '../../../trainers/trl/child.ts';
import type { ChildEvent } from '../../../trainers/trl/events.ts';

// A process that speaks the protocol of run_trl.py. TRL itself is run by test/bench/trl.ts.
const script = fileURLToPath(new URL('child-script.mjs', import.meta.url));

async function childOf(scenario: string, graceMs = 5000): Promise<ChildRun> {
  const folder = await mkdtemp(join(tmpdir(), 'cupel-child-'));
  const eventsFile = join(folder, 'events.jsonl');
  const stopFile = join(folder, 'STOP');
  return {
    command: [process.execPath, script, scenario, eventsFile, stopFile],
    environment: { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '' },
    eventsFile,
    stopFile,
    logFile: join(folder, 'log'),
    pollMs: 20,
    graceMs,
  };
}

async function collect(run: ChildRun): Promise<ChildEvent[]> {
  const events: ChildEvent[] = [];
  await runChild(run, (event) => events.push(event));
  return events;
}

describe('a child process that reports by events', () => {
  it('hands over events in order, also a line that arrives in two pieces, and keeps the noise as a log', async () => {
    const run = await childOf('finishes');
    const events = await collect(run);
    expect(events.map(({ event }) => event)).toEqual(['hello', 'step', 'step', 'step', 'checkpoint', 'done']);
    expect(events[3]).toMatchObject({ step: 3, loss: 1 / 3, metrics: { grad_norm: 0.5 } });
    expect(await readFile(run.logFile, 'utf8')).toBe('progress bars and other noise\n');
  });

  it('fails without the event done, though the exit code is 0', async () => {
    await expect(collect(await childOf('no-done'))).rejects.toMatchObject({
      code: 'CUPEL_TRL_FAILED',
      message: expect.stringContaining('without the event done') as string,
    });
  });

  it('fails with another exit code, though done was reported', async () => {
    await expect(collect(await childOf('done-but-fails'))).rejects.toMatchObject({
      code: 'CUPEL_TRL_FAILED',
      message: expect.stringContaining('exit code 9') as string,
    });
  });

  it('throws the reason of the rank that had one, not the failure of those that missed it', async () => {
    await expect(collect(await childOf('reports'))).rejects.toMatchObject({
      code: 'CUPEL_TRL_NOT_FINITE',
      message: 'the loss of step 2 is nan',
    });
  });

  it('gives a code that it does not know as a failure', async () => {
    await expect(collect(await childOf('unknown-code'))).rejects.toMatchObject({
      code: 'CUPEL_TRL_FAILED',
      message: 'odd',
    });
  });

  it('shows the last lines of a child that a signal ended', async () => {
    await expect(collect(await childOf('crashes'))).rejects.toMatchObject({
      code: 'CUPEL_TRL_FAILED',
      message: expect.stringMatching(/a signal.*the last line of the log/) as string,
    });
  });

  it('names a program that is not there', async () => {
    const run = await childOf('finishes');
    await expect(collect({ ...run, command: ['no-such-python', script] })).rejects.toMatchObject({
      code: 'CUPEL_TRL_FAILED',
      message: expect.stringContaining('no-such-python could not be started') as string,
    });
  });

  it('stops a child whose events it does not understand, and says where the line stands', async () => {
    const run = await childOf('garbage');
    await expect(collect(run)).rejects.toMatchObject({ code: 'CUPEL_TRL_EVENTS', where: `${run.eventsFile}:1` });
  });

  it('stops a child when the host refuses an event', async () => {
    const refuse = (event: ChildEvent): void => {
      if (event.event === 'hello') throw new Error('another number of processes');
    };
    await expect(runChild(await childOf('wrong-world'), refuse)).rejects.toThrow('another number of processes');
  });

  it('stops by the stop file on abort, so that the child can end between two steps', async () => {
    const controller = new AbortController();
    const run = await childOf('stops-by-file');
    const reason = new Error('enough');
    const running = runChild(
      run,
      (event) => {
        if (event.event === 'step') controller.abort(reason);
      },
      controller.signal,
    );
    await expect(running).rejects.toBe(reason);
    expect(await readFile(run.eventsFile, 'utf8')).toContain('CUPEL_TRL_STOPPED');
  });

  it('ends a child that ignores the stop file and SIGTERM, and what it started', async () => {
    const controller = new AbortController();
    const run = await childOf('ignores-everything', 200);
    const running = runChild(run, () => controller.abort(new Error('enough')), controller.signal);
    await expect(running).rejects.toThrow('enough');
    const beats = async (): Promise<number> => (await stat(`${run.eventsFile}.beat`)).size;
    const before = await beats();
    expect(before).toBeGreaterThan(0);
    await sleep(200);
    expect(await beats()).toBe(before);
  });

  it('ends what a child left behind when it failed', async () => {
    const run = await childOf('leaves-behind');
    await expect(collect(run)).rejects.toMatchObject({ code: 'CUPEL_TRL_FAILED' });
    await sleep(100);
    const beats = async (): Promise<number> => (await stat(`${run.eventsFile}.beat`)).size;
    const before = await beats();
    await sleep(150);
    expect(await beats()).toBe(before);
  });

  it('believes no step of a world that was not announced', async () => {
    await expect(collect(await childOf('no-hello'))).rejects.toMatchObject({
      code: 'CUPEL_TRL_EVENTS',
      message: expect.stringContaining('"step" out of its turn') as string,
    });
  });

  it('stops a child that writes a line without end', async () => {
    await expect(collect(await childOf('long-line'))).rejects.toMatchObject({
      code: 'CUPEL_TRL_EVENTS',
      message: expect.stringContaining('more than 1048576 bytes') as string,
    });
  });

  it('reads many events once each', async () => {
    expect(await collect(await childOf('many-events'))).toHaveLength(50_002);
  });

  it('keeps a flooded log short, and its end', async () => {
    const run = await childOf('floods');
    await expect(collect({ ...run, logLimit: 30_000 })).rejects.toMatchObject({
      code: 'CUPEL_TRL_FAILED',
      message: expect.stringContaining('the end') as string,
    });
    expect((await stat(run.logFile)).size).toBeLessThan(100_000);
    expect(await readFile(run.logFile, 'utf8')).toMatch(/^\(earlier lines were removed/);
  });

  it('stops a child though the stop file can not be written', async () => {
    const run = await childOf('ignores-everything', 100);
    const controller = new AbortController();
    const stopFile = join(run.stopFile, 'no', 'such', 'folder');
    const running = runChild({ ...run, stopFile }, () => controller.abort(new Error('enough')), controller.signal);
    await expect(running).rejects.toThrow('enough');
  });
});
