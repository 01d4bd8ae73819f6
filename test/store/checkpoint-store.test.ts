import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { digestFolder } from '../../src/kit/index.ts';
import { openCheckpointStore, type StoredCheckpointStore } from '../../src/store/index.ts';

let directory: string;
let store: StoredCheckpointStore;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cupel-checkpoints-'));
  store = openCheckpointStore(join(directory, 'store'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

async function makeCheckpoint(name: string): Promise<string> {
  const folder = join(directory, name);
  await mkdir(join(folder, 'sub'), { recursive: true });
  await writeFile(join(folder, 'model.safetensors'), `weights of ${name}`);
  await writeFile(join(folder, 'sub', 'config.json'), '{}');
  return folder;
}

async function promote(name: string): Promise<string> {
  const { digest, path } = await store.add(await makeCheckpoint(name));
  await store.promote('production', {
    action: 'promote',
    checkpoint: { id: name, digest, path },
    verdictDigest: null,
    evidence: null,
  });
  return digest;
}

describe('the checkpoint store', () => {
  it('copies a folder in under its digest, once', async () => {
    const folder = await makeCheckpoint('base');
    const first = await store.add(folder);
    expect(first.digest).toBe(await digestFolder(folder));
    expect(await digestFolder(first.path)).toBe(first.digest);
    expect(await store.add(folder)).toEqual(first);
  });

  it('has nothing current in a new channel', async () => {
    expect(await store.current('production')).toBeNull();
    expect(await store.history('production')).toEqual([]);
  });

  it('makes the promoted checkpoint current, and keeps paths relative so that the store can be moved', async () => {
    const digest = await promote('base');
    const current = await store.current('production');
    expect(current).toEqual({
      sequence: 1,
      action: 'promote',
      checkpoint: { id: 'base', digest, path: `objects/${digest.slice(7)}` },
      verdictDigest: null,
      evidence: null,
      previous: null,
    });
    expect(current && (await digestFolder(store.locate(current)))).toBe(digest);
  });

  it('adds nothing when a resumed pipeline promotes what is current', async () => {
    await promote('base');
    await promote('base');
    expect(await store.history('production')).toHaveLength(1);
  });

  it('goes back one promotion a rollback, and then says that there is no more', async () => {
    for (const name of ['one', 'two', 'three']) await promote(name);
    expect((await store.rollback('production')).checkpoint.id).toBe('two');
    expect((await store.rollback('production')).checkpoint.id).toBe('one');
    await expect(store.rollback('production')).rejects.toMatchObject({ code: 'CUPEL_STORE_NOTHING_TO_ROLL_BACK' });
    expect((await store.history('production')).map(({ action, sequence }) => `${sequence} ${action}`)).toEqual([
      '1 promote',
      '2 promote',
      '3 promote',
      '4 rollback',
      '5 rollback',
    ]);
    await promote('three');
    expect((await store.rollback('production')).checkpoint.id).toBe('one');
  });

  it('detects an entry that was changed, removed or put in', async () => {
    for (const name of ['one', 'two', 'three']) await promote(name);
    const file = join(directory, 'store', 'channels', 'production.jsonl');
    const text = await readFile(file, 'utf8');
    const lines = text.trimEnd().split('\n');
    for (const changed of [
      text.replace('"id":"two"', '"id":"TWO"'),
      `${[lines[0], lines[2]].join('\n')}\n`,
      `${[lines[0], lines[1], lines[1], lines[2]].join('\n')}\n`,
      `${[lines[1], lines[2]].join('\n')}\n`,
      text.slice(0, -3),
    ]) {
      await writeFile(file, changed);
      await expect(store.current('production')).rejects.toMatchObject({ exit: 4 });
      await expect(store.rollback('production')).rejects.toMatchObject({ exit: 4 });
    }
    await writeFile(file, text);
    expect((await store.current('production'))?.checkpoint.id).toBe('three');
  });

  it('detects a stored checkpoint that was changed', async () => {
    const { digest, path } = await store.add(await makeCheckpoint('base'));
    await store.promote('production', {
      action: 'promote',
      checkpoint: { id: 'base', digest, path },
      verdictDigest: null,
      evidence: null,
    });
    await store.verify('production');
    await writeFile(join(path, 'model.safetensors'), 'weights of base!');
    await expect(store.verify('production')).rejects.toMatchObject({ code: 'CUPEL_STORE_CHECKPOINT_CHANGED' });
    await expect(store.add(join(directory, 'base'))).rejects.toMatchObject({ code: 'CUPEL_STORE_CHECKPOINT_CHANGED' });
    await expect(
      store.promote('other', {
        action: 'promote',
        checkpoint: { id: 'base', digest, path },
        verdictDigest: null,
        evidence: null,
      }),
    ).rejects.toMatchObject({ code: 'CUPEL_STORE_CHECKPOINT_CHANGED' });
  });

  it('refuses bad names, unknown digests, missing and empty folders', async () => {
    await expect(async () => store.current('../x')).rejects.toMatchObject({ code: 'CUPEL_STORE_CHANNEL_INVALID' });
    await expect(store.add(join(directory, 'nowhere'))).rejects.toMatchObject({
      code: 'CUPEL_STORE_CHECKPOINT_INVALID',
      exit: 2,
    });
    await mkdir(join(directory, 'empty'));
    await expect(store.add(join(directory, 'empty'))).rejects.toMatchObject({ code: 'CUPEL_STORE_CHECKPOINT_INVALID' });
    for (const digest of [`sha256:${'0'.repeat(64)}`, '..', 'sha256:']) {
      await expect(
        store.promote('production', {
          action: 'promote',
          checkpoint: { id: 'x', digest, path: '' },
          verdictDigest: null,
          evidence: null,
        }),
      ).rejects.toMatchObject({ code: 'CUPEL_STORE_CHECKPOINT_INVALID' });
    }
  });
});
