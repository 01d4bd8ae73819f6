import { spawnSync } from 'node:child_process';
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { packageRoot, writeTensors } from '../../../src/kit/index.ts';

const root = packageRoot();
const [tensors, elements] = [96, 1 << 18];
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cupel-merge-memory-'));
  const names = [...Array(tensors).keys()].map((index) => `layer.${String(index).padStart(2, '0')}`);
  const values = Float32Array.from({ length: elements }, (_, index) => (index % 255) / 256);
  await writeTensors(
    join(folder, 'base', 'model.safetensors'),
    names.map((name) => ({ name, dtype: 'BF16', shape: [256, 1024] })),
    () => Promise.resolve(values),
  );
  await writeFile(join(folder, 'base', 'config.json'), JSON.stringify({ model_type: 'llama' }));
  for (const name of ['a', 'b']) await cp(join(folder, 'base'), join(folder, name), { recursive: true });
});
afterAll(() => rm(folder, { recursive: true, force: true }));

it('a merge takes the memory of its largest tensor times the models, not that of the models', () => {
  const script = `
    import { openRegistry } from ${JSON.stringify(join(root, 'src/plugins/registry.ts'))};
    const [base, a, b] = ['base', 'a', 'b'].map((name) => ${JSON.stringify(folder)} + '/' + name);
    const merge = await (await openRegistry()).load('trainer', 'merge');
    const before = process.resourceUsage().maxRSS;
    await merge.train({ id: 'm', base: { id: 'base', path: base }, output: base + '-merged', seed: 1,
      parameters: { method: 'task-arithmetic', models: [{ path: a }, { path: b }] } }, () => {});
    console.log(process.resourceUsage().maxRSS - before);
  `;
  const { stdout, stderr } = spawnSync(
    process.execPath,
    ['--import', join(root, 'node_modules/tsx/dist/esm/index.mjs'), '--input-type=module', '-e', script],
    { encoding: 'utf8', timeout: 60_000 },
  );
  const grownBytes = 1024 * Number(stdout.trim() || `failed: ${stderr}`);
  // Base, two models and the result would be four times this, in memory at once.
  expect(grownBytes).toBeLessThan(4 * elements * tensors);
});
