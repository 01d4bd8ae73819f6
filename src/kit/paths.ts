import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Folder of this package: the nearest one above with a package.json named cupel. */
export function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const file = join(folder, 'package.json');
    if (existsSync(file) && (JSON.parse(readFileSync(file, 'utf8')) as { name?: string }).name === 'cupel')
      return folder;
    const parent = dirname(folder);
    if (parent === folder) throw new Error('package.json of cupel not found above ' + import.meta.url);
    folder = parent;
  }
}

/** Root of the running tree: the repository when run from source, `dist/` when built (a mirror of it). */
export function codeRoot(): string {
  return join(dirname(fileURLToPath(import.meta.url)), '..', '..');
}
