import { spawnSync } from 'node:child_process';
import { cp, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

const root = join(import.meta.dirname, '..', '..');
let copy: string;

beforeAll(async () => {
  copy = await mkdtemp(join(tmpdir(), 'cupel-layers-'));
  for (const name of [
    'src',
    'judges',
    'trainers',
    'reports',
    'suites/validators',
    '.dependency-cruiser.cjs',
    'tsconfig.json',
    'package.json',
  ]) {
    await cp(join(root, name), join(copy, name), { recursive: true });
  }
  await cp(join(root, 'engines'), join(copy, 'engines'), {
    recursive: true,
    filter: (path) => !/\/(target|crates)(\/|$)|\.node$/.test(path),
  });
  await symlink(join(root, 'node_modules'), join(copy, 'node_modules'));
});

afterAll(() => rm(copy, { recursive: true, force: true }));

function check(): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, 'scripts/check-layers.mjs'), copy], {
    encoding: 'utf8',
  });
  return { status, output: stdout + stderr };
}

test('the house as it stands has no arrow running up and no circle', { timeout: 60_000 }, () => {
  expect(check()).toMatchObject({ status: 0 });
});

const planted: readonly { readonly rule: string; readonly file: string; readonly code: string }[] = [
  { rule: 'gate-is-a-room', file: 'src/gate/planted.ts', code: "export * from '../store/errors.ts';\n" },
  { rule: 'contracts-import-nothing', file: 'src/contracts/planted.ts', code: "export * from '../kit/index.ts';\n" },
  {
    rule: 'core-names-no-plugin',
    file: 'src/run/planted.ts',
    code: "export { default } from '../../trainers/sft.ts';\n",
  },
  { rule: 'trainers-know-contracts', file: 'trainers/planted.ts', code: "export * from '../src/store/errors.ts';\n" },
  { rule: 'plugins-are-strangers', file: 'trainers/planted.ts', code: "export { default } from './sft.ts';\n" },
  { rule: 'no-circle', file: 'src/kit/planted.ts', code: "export * from './planted.ts';\n" },
  { rule: 'jobs-below-cli', file: 'src/jobs/planted.ts', code: "export * from '../cli/errors.ts';\n" },
];

test.each(planted)('a planted violation of $rule is found', { timeout: 60_000 }, async ({ rule, file, code }) => {
  await writeFile(join(copy, file), code);
  const { status, output } = check();
  await rm(join(copy, file));
  expect(output).toContain(rule);
  expect(status).toBe(1);
});
