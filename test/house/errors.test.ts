import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { collectErrorCodes, renderErrorsDoc } from '../../scripts/lib/error-codes.ts';

const root = join(import.meta.dirname, '..', '..');

test('docs/errors.md is what the source declares', async () => {
  expect(await readFile(join(root, 'docs/errors.md'), 'utf8')).toBe(await renderErrorsDoc(root));
});

test('every code of the docs is declared in the source, and every declared code is in the docs', async () => {
  const documented = [...(await readFile(join(root, 'docs/errors.md'), 'utf8')).matchAll(/^### (CUPEL_\w+)$/gm)].map(
    ([, code]) => code,
  );
  const declared = (await collectErrorCodes(root)).map(({ code }) => code);
  expect(documented.sort()).toEqual(declared.sort());
  expect(new Set(declared).size).toBe(declared.length);
});

test('every declared code is raised somewhere, and every message ends in a remedy', async () => {
  const source = (await Promise.all((await sources(root)).map((file) => readFile(file, 'utf8')))).join('\n');
  for (const { code, mend, what } of await collectErrorCodes(root)) {
    // Once in its declaration, at least once where it is raised.
    expect(source.split(new RegExp(`\\b${code}\\b`)).length, `${code} is never raised`).toBeGreaterThan(2);
    expect(mend.length, code).toBeGreaterThan(10);
    expect(what.length, code).toBeGreaterThan(10);
  }
});

async function sources(folder: string): Promise<string[]> {
  const found: string[] = [];
  const walk = async (path: string): Promise<void> => {
    for (const entry of await readdir(path, { withFileTypes: true })) {
      if (entry.isDirectory()) {
        if (!['target', 'node_modules', 'cases', 'tests'].includes(entry.name)) await walk(join(path, entry.name));
      } else if (/\.(ts|mjs|rs|py)$/.test(entry.name)) found.push(join(path, entry.name));
    }
  };
  for (const family of ['src', 'engines', 'judges', 'trainers', 'suites', 'reports', 'scripts'])
    await walk(join(folder, family));
  return found;
}
