import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import pLimit from 'p-limit';
import { canonicalJson } from './canonical-json.ts';
import { kitErrors } from './kit-errors.ts';

/** Hex sha256 of text (UTF-8) or bytes. */
export function sha256(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}

/** `sha256:<hex>` over the canonical JSON of a value. */
export function digestOf(value: unknown): string {
  return `sha256:${sha256(canonicalJson(value))}`;
}

/** Weights are large: with the default of 64 KiB, waiting for the next piece takes longer than hashing it. */
const readSize = 1 << 20;

/** Hex sha256 of a file, streamed. */
export async function sha256File(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: readSize })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/**
 * Relative paths (with `/`) and hex digests of all files below a folder, sorted by path components. A link to a file
 * counts as what it leads to (model caches are folders of links); git's own entries are left out. A file counts as a
 * folder with that file alone: a checkpoint may be a single file.
 * @throws CUPEL_FILE_UNREADABLE for a link to anything else, or an entry that is no plain file: it could be read from,
 *   and no digest would hold it
 */
export async function listFileDigests(folder: string): Promise<{ path: string; sha256: string }[]> {
  if (await leadsToFile(folder)) return [{ path: basename(folder), sha256: await sha256File(folder) }];
  const found: string[][] = [];
  const walk = async (components: string[]): Promise<void> => {
    for (const entry of await readdir(join(folder, ...components), { withFileTypes: true })) {
      if (gitEntries.has(entry.name)) continue;
      const path = [...components, entry.name];
      if (entry.isDirectory()) await walk(path);
      else if (entry.isFile() || (await leadsToFile(join(folder, ...path)))) found.push(path);
      else {
        throw kitErrors.CUPEL_FILE_UNREADABLE({
          message: `${path.join('/')} is neither a plain file nor a link to one`,
          where: folder,
          remedy: 'Remove it, or put the file itself in its place.',
        });
      }
    }
  };
  await walk([]);
  found.sort(compareComponents);
  // A folder may hold more files than a process may open.
  const limit = pLimit(8);
  return limit.map(found, async (components) => ({
    path: components.join('/'),
    sha256: await sha256File(join(folder, ...components)),
  }));
}

const gitEntries: ReadonlySet<string> = new Set(['.git', '.gitattributes', '.gitignore', '.github']);

async function leadsToFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null))?.isFile() ?? false;
}

/** Digest of a folder, or of a folder with a single file by that file: over the paths and digests of its files. */
export async function digestFolder(folder: string): Promise<string> {
  return digestOf(await listFileDigests(folder));
}

function compareComponents(a: readonly string[], b: readonly string[]): number {
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const [x, y] = [a[i] as string, b[i] as string];
    if (x !== y) return x < y ? -1 : 1;
  }
  return a.length - b.length;
}
