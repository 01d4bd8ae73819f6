import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { openRegistry } from '../../src/plugins/registry.ts';

const folders: string[] = [];
afterEach(() => folders.splice(0).forEach((folder) => rmSync(folder, { recursive: true })));

function plugin(name: string, code: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'cupel-plugin-'));
  folders.push(folder);
  const file = join(folder, name);
  writeFileSync(file, code);
  return file;
}

test('a plugin is found by its path, and a family is listed without loading it', async () => {
  const registry = await openRegistry();
  expect(await registry.ids('trainer')).toEqual(expect.arrayContaining(['dpo', 'sft']));
  expect(await registry.ids('engine')).toEqual(['classical', 'native']);
  expect(await registry.ids('validator')).not.toContain('lib');
  expect((await registry.load('trainer', 'sft')).kind).toBe('trainer');
});

test('an unknown id is one coded error with a near name; a path is no id', async () => {
  const registry = await openRegistry();
  await expect(registry.load('trainer', 'stf')).rejects.toMatchObject({
    code: 'CUPEL_PLUGIN_UNKNOWN',
    message: 'no trainer is named "stf"; did you mean "sft"?',
  });
  await expect(registry.load('trainer', '../engines/native')).rejects.toMatchObject({ code: 'CUPEL_PLUGIN_UNKNOWN' });
});

test('a user’s own plugin is loaded from TypeScript when the folder is trusted, and only then', async () => {
  const file = plugin(
    'shout.ts',
    "const judge: { kind: 'judge'; summary: string; version: string } = { kind: 'judge', summary: 'x', version: '1.0.0' };\nexport default { ...judge, judge: async () => [] };\n",
  );
  await expect(openRegistry({ files: [file] })).rejects.toMatchObject({ code: 'CUPEL_PLUGIN_UNTRUSTED' });
  const registry = await openRegistry({ files: [file], trusted: true });
  expect(await registry.ids('judge')).toContain('shout');
  expect((await registry.load('judge', 'shout')).summary).toBe('x');
});

test('a file that exports no plugin, or does not load, is one coded error that names it', async () => {
  const empty = plugin('empty.ts', 'export default { kind: "nothing" };\n');
  await expect(openRegistry({ files: [empty], trusted: true })).rejects.toMatchObject({
    code: 'CUPEL_PLUGIN_INVALID',
    where: empty,
  });
  const broken = plugin('broken.ts', 'import "a-package-that-is-not-there";\nexport default {};\n');
  await expect(openRegistry({ files: [broken], trusted: true })).rejects.toMatchObject({
    code: 'CUPEL_PLUGIN_LOAD',
    where: broken,
    message: expect.stringContaining('a-package-that-is-not-there'),
  });
});

test('a plugin that lacks what its family is used by, or whose id is taken by another, is refused when it is loaded', async () => {
  const half = plugin(
    'half.ts',
    "export default { kind: 'trainer', version: '1.0.0', summary: 'x', needs: 'data', options: {}, plan: async () => ({}) };\n",
  );
  await expect(openRegistry({ files: [half], trusted: true })).rejects.toMatchObject({
    code: 'CUPEL_PLUGIN_INVALID',
    message: 'the trainer has no function `train`',
    where: half,
  });
  const inherited = plugin('inherited.ts', "export default { kind: 'constructor' };\n");
  await expect(openRegistry({ files: [inherited], trusted: true })).rejects.toMatchObject({
    code: 'CUPEL_PLUGIN_INVALID',
  });
  const judge = "export default { kind: 'judge', summary: 'x', version: '1.0.0', judge: async () => [] };\n";
  const files = [plugin('shout.ts', judge), plugin('shout.ts', judge)];
  await expect(openRegistry({ files, trusted: true })).rejects.toMatchObject({
    message: 'two plugins of the config would be the judge "shout"',
  });
});
