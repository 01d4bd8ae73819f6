// Writes docs/errors.md from the coded errors of every room and plugin; `--check` only compares.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { renderErrorsDoc } from './lib/error-codes.ts';

const root = join(import.meta.dirname, '..');
const file = join(root, 'docs', 'errors.md');
const wanted = await renderErrorsDoc(root);
if (process.argv.includes('--check')) {
  const found = await readFile(file, 'utf8').catch(() => '');
  if (found !== wanted) {
    console.error('docs/errors.md is stale: run `npm run docs:errors`');
    process.exit(1);
  }
} else {
  await writeFile(file, wanted);
}
