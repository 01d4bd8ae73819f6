import { mkdtemp, readFile, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openJournal } from '../../src/store/index.ts';

let file: string;
let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cupel-journal-'));
  file = join(directory, 'deep', 'journal.jsonl');
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

describe('the step journal', () => {
  it('does a step once and gives its result again after reopening', async () => {
    let calls = 0;
    const work = async (): Promise<{ n: number }> => ({ n: ++calls });
    const first = await openJournal(file);
    expect(await first.perform('train', 'sha256:1', work)).toEqual({ result: { n: 1 }, skipped: false });
    expect(await first.perform('train', 'sha256:1', work)).toEqual({ result: { n: 1 }, skipped: true });
    await first.close();
    const second = await openJournal(file);
    expect(await second.perform('train', 'sha256:1', work)).toEqual({ result: { n: 1 }, skipped: true });
    expect(second.entries).toHaveLength(1);
    await second.close();
    expect(calls).toBe(1);
  });

  it('does a step anew when its input has changed, or when its result no longer holds', async () => {
    let calls = 0;
    const work = async (): Promise<number> => ++calls;
    const journal = await openJournal(file);
    await journal.perform('train', 'sha256:1', work);
    expect((await journal.perform('train', 'sha256:2', work)).result).toBe(2);
    expect((await journal.perform('train', 'sha256:2', work, { holds: async () => false })).result).toBe(3);
    expect(journal.find('train', 'sha256:1')).toBeNull();
    await journal.close();
  });

  it('records nothing of a step that failed, and drops a torn record', async () => {
    const journal = await openJournal(file);
    await journal.perform('one', 'x', async () => 1);
    await expect(journal.perform('two', 'x', async () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    await journal.perform('three', 'x', async () => undefined);
    await journal.close();
    await truncate(file, (await readFile(file)).length - 1);
    const again = await openJournal(file);
    expect(again.torn).toBe(1);
    expect(again.entries.map(({ step }) => step)).toEqual(['one']);
    await again.close();
  });

  it('lets one process in at a time', async () => {
    const journal = await openJournal(file);
    await expect(openJournal(file)).rejects.toMatchObject({ code: 'CUPEL_STORE_LOCKED' });
    await journal.close();
    await (await openJournal(file)).close();
  });
});
