import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { packageRoot, readSafetensors, writeSafetensors } from '../../src/kit/index.ts';
import { cupel } from '../lib/cli.ts';

const e2e = join(packageRoot(), 'fixtures/reference/e2e');
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cupel-merge-cli-'));
  for (const name of ['base', 'tuned']) await cp(e2e, join(folder, name), { recursive: true });
  const { tensors } = await readSafetensors(join(e2e, 'after_sft5.safetensors'));
  await writeSafetensors(join(folder, 'tuned', 'model.safetensors'), tensors.values());
  const recipe = 'method: ties\nbase: base\nmodels:\n  - path: tuned\n    weight: 0.5\ndensity: 0.3\nout: by-recipe\n';
  await writeFile(join(folder, 'merge.yaml'), recipe);
  await writeFile(join(folder, 'wrong.yaml'), 'method: linear\nmodels:\n  - { path: tuned, wieght: 1 }\n');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

it('cupel merge-models gives the same bytes by a recipe and by flags', () => {
  const first = cupel(['merge-models', join(folder, 'merge.yaml'), '--json']);
  const flags = ['--method', 'ties', '--base', 'base', '--models', 'tuned=0.5', '--density', '0.3', '-o', 'by-flags'];
  const second = cupel(['merge-models', ...flags, '--json'], { cwd: folder });
  const [one, two] = [first, second].map(({ stdout }) => JSON.parse(stdout) as { path: string; digest: string });
  expect(one?.path).toBe(join(folder, 'by-recipe'));
  expect(two?.digest).toBe(one?.digest);
});

it('cupel merge-models refuses what it can not do, by name', () => {
  const bad = (...args: string[]): string => {
    const { status, stderr } = cupel(['merge-models', ...args], { cwd: folder });
    expect(status).toBe(2);
    return stderr;
  };
  expect(bad('--method', 'linear', '--models', 'tuned')).toContain('give a folder to write with -o');
  expect(bad('--method', 'linear', '--models', 'tuned', '--seed', '1.5', '-o', 'x')).toContain(
    '--seed wants a whole number from 0, got 1.5',
  );
  expect(bad('wrong.yaml', '-o', 'x')).toContain('at: wrong.yaml:3');
  expect(bad('merge.yaml', '--t', '0.5')).toContain('--t says again what merge.yaml says');
});
