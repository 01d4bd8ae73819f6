import * as fc from 'fast-check';
import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Row } from '../../src/contracts/index.ts';
import { openRunStore, runDigest, runText } from '../../src/store/index.ts';
import { sampleIdentity, sampleRow } from './sample.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cupel-store-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

const identity = sampleIdentity();
const folder = (): string => join(directory, 'runs', identity.id);
const segment = (number = 1): string => join(folder(), `rows-000${number}.jsonl`);

async function write(names: readonly string[], finish = false): Promise<void> {
  const writer = await openRunStore(directory).begin(identity);
  for (const name of names) await writer.append(sampleRow(name));
  if (finish) await writer.finish();
  await writer.close();
}

describe('the run store', () => {
  it('gives back the rows that were appended, in canonical order', async () => {
    await write(['c', 'a', 'b'], true);
    const run = await openRunStore(directory).read(identity.id);
    expect(run).toEqual({ identity, complete: true, rows: ['a', 'b', 'c'].map((name) => sampleRow(name)) });
  });

  it('reads equal whatever the order of writing', async () => {
    const store = openRunStore(directory);
    await write(['a', 'b', 'c'], true);
    const first = await store.read(identity.id);
    await rm(folder(), { recursive: true });
    await write(['c', 'b', 'a'], true);
    const second = await store.read(identity.id);
    expect(runText(second)).toBe(runText(first));
    expect(runDigest(second)).toBe(runDigest(first));
  });

  it('gives an interrupted run back to the next writer, and lists it as not complete', async () => {
    await write(['a', 'b']);
    const store = openRunStore(directory);
    const writer = await store.begin(identity);
    expect([...writer.done.keys()].sort()).toEqual(['a@1', 'b@1']);
    expect(writer.complete).toBe(false);
    await writer.append(sampleRow('c'));
    await writer.close();
    expect(await readdir(folder())).toContain('rows-0002.jsonl');
    expect(await store.list()).toEqual([{ identity, complete: false }]);
  });

  it('drops and counts a torn last line, and appends after it without harm', async () => {
    await write(['a', 'b']);
    const bytes = await readFile(segment());
    await truncate(segment(), bytes.length - 5);
    expect((await openRunStore(directory).read(identity.id)).rows.map((row) => row.case)).toEqual(['a']);
    const writer = await openRunStore(directory).begin(identity);
    expect(writer.torn).toBe(1);
    await writer.append(sampleRow('b'));
    await writer.finish();
    await writer.close();
    expect((await openRunStore(directory).read(identity.id)).rows.map((row) => row.case)).toEqual(['a', 'b']);
  });

  it('names file and line of a damaged line in the middle', async () => {
    await write(['a', 'b', 'c']);
    const text = await readFile(segment(), 'utf8');
    await writeFile(segment(), text.replace('answer to b', 'answer to B'));
    await expect(openRunStore(directory).read(identity.id)).rejects.toMatchObject({
      code: 'CUPEL_STORE_LINE_CORRUPT',
      where: `${segment()}:2`,
      exit: 4,
    });
    await expect(openRunStore(directory).begin(identity)).rejects.toMatchObject({ code: 'CUPEL_STORE_LINE_CORRUPT' });
  });

  it('detects any change of any byte of a finished run', async () => {
    await write(['a', 'b'], true);
    const bytes = await readFile(segment());
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
        const changed = Buffer.from(bytes);
        changed[at] = (changed[at] ?? 0) ^ flip;
        await writeFile(segment(), changed);
        await expect(openRunStore(directory).read(identity.id)).rejects.toMatchObject({ exit: 4 });
      }),
      { numRuns: 150, seed: 1 },
    );
  });

  it('notices a line that was removed from a finished run', async () => {
    await write(['a', 'b'], true);
    const lines = (await readFile(segment(), 'utf8')).split('\n');
    await writeFile(segment(), lines.slice(1).join('\n'));
    await expect(openRunStore(directory).read(identity.id)).rejects.toMatchObject({
      code: 'CUPEL_STORE_MANIFEST_INVALID',
    });
  });

  it('refuses a second writer while the first lives, and lets it in afterwards', async () => {
    const store = openRunStore(directory);
    const first = await store.begin(identity);
    await expect(store.begin(identity)).rejects.toMatchObject({
      code: 'CUPEL_STORE_LOCKED',
      message: `process ${process.pid} is writing here`,
    });
    await first.append(sampleRow('a'));
    await first.close();
    const second = await store.begin(identity);
    expect(second.done.size).toBe(1);
    await second.close();
  });

  it('recovers the lock of a dead process and of a reused pid, and respects one of another machine', async () => {
    await mkdir(folder(), { recursive: true });
    const host = hostname().replaceAll(/[^A-Za-z0-9-]/g, '-');
    await writeFile(join(folder(), `writer.${host}.${2 ** 22 + 5}.1.lock`), '');
    await writeFile(join(folder(), `writer.${host}.${process.ppid}.1.lock`), '');
    await write(['a']);
    expect((await readdir(folder())).filter((name) => name.endsWith('.lock'))).toEqual([]);
    await writeFile(join(folder(), 'writer.some-other-host.17.1.lock'), '');
    await expect(openRunStore(directory).begin(identity)).rejects.toMatchObject({
      code: 'CUPEL_STORE_LOCKED',
      message: 'process 17 on some-other-host is writing here',
    });
  });

  it('takes no second row for a case, no row of another suite, and none after the end', async () => {
    const writer = await openRunStore(directory).begin(identity);
    await writer.append(sampleRow('a'));
    await expect(writer.append(sampleRow('a'))).rejects.toMatchObject({ code: 'CUPEL_STORE_ROW_CONFLICT' });
    await expect(writer.append(sampleRow('b', { suite: 'other' }))).rejects.toMatchObject({
      code: 'CUPEL_STORE_ROW_CONFLICT',
    });
    await writer.finish();
    await expect(writer.append(sampleRow('b'))).rejects.toMatchObject({ code: 'CUPEL_STORE_ROW_CONFLICT' });
    await writer.close();
  });

  it('answers a missing run, a foreign path, a newer format and a changed manifest by their codes', async () => {
    const store = openRunStore(directory);
    await expect(store.read('0123456789abcdef')).rejects.toMatchObject({ code: 'CUPEL_STORE_RUN_MISSING' });
    await expect(store.read('../../etc')).rejects.toMatchObject({ code: 'CUPEL_STORE_RUN_MISSING' });
    await write(['a']);
    const path = join(folder(), 'manifest.json');
    const text = await readFile(path, 'utf8');
    await writeFile(path, text.replace('"seed":7', '"seed":8'));
    await expect(store.read(identity.id)).rejects.toMatchObject({ code: 'CUPEL_STORE_MANIFEST_INVALID' });
    await writeFile(path, text.replace(/"version":1}\n$/, '"version":2}\n'));
    await expect(store.read(identity.id)).rejects.toMatchObject({ code: 'CUPEL_STORE_VERSION_UNKNOWN' });
    await writeFile(path, 'null');
    await expect(store.read(identity.id)).rejects.toMatchObject({ code: 'CUPEL_STORE_MANIFEST_INVALID' });
  });

  it('never mixes rows that are appended at the same time', async () => {
    const names = Array.from({ length: 250 }, (_, index) => `case-${String(index).padStart(3, '0')}`);
    const writer = await openRunStore(directory).begin(identity);
    await Promise.all(names.map((name) => writer.append(sampleRow(name))));
    await writer.finish();
    await writer.close();
    expect((await openRunStore(directory).read(identity.id)).rows.map((row) => row.case)).toEqual(names);
  });

  it('loses at most the row that was being written, at any cut of any interleaving of appends and crashes', async () => {
    const names = ['a', 'b', 'c', 'd', 'e', 'f'];
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ rows: fc.integer({ min: 0, max: 3 }), cut: fc.nat(400), crash: fc.boolean() }), {
          minLength: 1,
          maxLength: 5,
        }),
        fc.shuffledSubarray(names, { minLength: 6 }),
        async (attempts, order) => {
          await rm(folder(), { recursive: true, force: true });
          const store = openRunStore(directory);
          for (const { rows, cut, crash } of attempts) {
            const writer = await store.begin(identity);
            const before = new Set(writer.done.keys());
            const pending = order.filter((name) => !before.has(`${name}@1`)).slice(0, rows);
            for (const name of pending) await writer.append(sampleRow(name));
            await writer.close();
            if (!crash || pending.length === 0) continue;
            // A kill in the middle of a write leaves a prefix of the file: whole rows before the cut, part of one after.
            const path = join(
              folder(),
              (await readdir(folder()))
                .filter((name) => name.startsWith('rows-'))
                .sort()
                .at(-1) ?? '',
            );
            const bytes = await readFile(path);
            const lastStart = bytes.lastIndexOf(10, bytes.length - 2) + 1;
            await truncate(path, lastStart + (cut % (bytes.length - lastStart)));
            const kept = new Set((await store.read(identity.id)).rows.map((row) => `${row.case}@1`));
            for (const key of before) expect(kept).toContain(key);
            expect(kept.size).toBe(before.size + pending.length - 1);
          }
          const writer = await store.begin(identity);
          for (const name of order) if (!writer.done.has(`${name}@1`)) await writer.append(sampleRow(name));
          await writer.finish();
          await writer.close();
          const rows: Row[] = names.map((name) => sampleRow(name));
          expect(runDigest(await store.read(identity.id))).toBe(runDigest({ identity, rows }));
        },
      ),
      { numRuns: 40, seed: 2 },
    );
  });

  it('says where it could not write', async () => {
    await writeFile(join(directory, 'runs'), 'a file where a folder should be');
    await expect(openRunStore(directory).begin(identity)).rejects.toMatchObject({
      code: 'CUPEL_STORE_WRITE_FAILED',
      exit: 2,
    });
  });

  it('ignores bytes that a crash left without line feed even when they look whole', async () => {
    await write(['a']);
    await appendFile(segment(), '{"check":"0000000000000000","value":{}}');
    expect((await openRunStore(directory).read(identity.id)).rows).toHaveLength(1);
  });
});
