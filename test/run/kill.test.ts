import { spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const script = fileURLToPath(new URL('killed-run.ts', import.meta.url));
let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cupel-kill-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

/** Runs the script; with `killAfter` it is killed (SIGKILL) after so many requests. */
function start(
  folder: string,
  wait: number,
  killAfter: number | null,
): Promise<{ signal: string | null; stdout: string; asked: number }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--import', 'tsx', script, join(directory, folder), String(wait)]);
    let [stdout, asked] = ['', 0];
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => {
      asked += chunk.length;
      if (killAfter !== null && asked >= killAfter) child.kill('SIGKILL');
    });
    child.on('close', (_, signal) => resolve({ signal, stdout, asked }));
  });
}

describe('a run that is killed', () => {
  it('loses at most the row in flight, and resumed reads byte for byte like an uninterrupted one', async () => {
    const [whole, first] = await Promise.all([start('whole', 0, null), start('cut', 2, 40)]);
    expect(first.signal).toBe('SIGKILL');
    const [id = ''] = await readdir(join(directory, 'cut', 'runs'));
    const kept = (await readFile(join(directory, 'cut', 'runs', id, 'rows-0001.jsonl'), 'utf8')).split('\n').length - 1;
    expect(kept).toBeGreaterThanOrEqual(first.asked - 2);
    const second = await start('cut', 1, 60);
    expect(second.signal).toBe('SIGKILL');
    const last = await start('cut', 0, null);
    expect(last.asked).toBeLessThan(200 - kept);
    expect(last.stdout).toBe(whole.stdout);
    expect(whole.stdout.split('\n')).toHaveLength(202);
  }, 30_000);
});
