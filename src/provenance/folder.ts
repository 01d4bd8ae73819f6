import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { sha256File } from '../kit/index.ts';

export interface FolderFile {
  /** With `/`, relative to the folder. */
  readonly path: string;
  readonly sha256: string;
}

interface FolderEntry {
  readonly path: string;
  /** False for links, sockets, devices: their content can change under the reader. */
  readonly plain: boolean;
}

/** More entries than this are not evidence but an attempt to keep the verifier busy. */
const mostEntries = 10_000;

/**
 * All files below a folder with their hex digests, in the order of path components (`a/x` before `a-b`).
 * @throws Error for a folder that cannot be read, holds too much, or holds something that is not a plain file
 */
export async function digestEverything(folder: string): Promise<FolderFile[]> {
  const files: FolderFile[] = [];
  for (const { path, plain } of await listEverything(folder)) {
    if (!plain) throw new Error(`${path} is not a plain file`);
    files.push({ path, sha256: await sha256File(join(folder, path)) });
  }
  return files;
}

/**
 * How a folder differs from what should be there; null if it does not. Only files that should be there are read.
 * @param expected path to hex digest. @param ignored paths, with all below them, that do not count.
 */
export async function findDifference(
  folder: string,
  expected: ReadonlyMap<string, string>,
  ignored: readonly string[],
): Promise<string | null> {
  const seen = (await listEverything(folder)).filter(({ path }) => !isBelow(path, ignored));
  const there = new Set(seen.map(({ path }) => path));
  for (const path of expected.keys()) if (!there.has(path)) return `${path} is missing`;
  for (const { path, plain } of seen) {
    if (!expected.has(path)) return `${path} was added`;
    if (!plain) return `${path} is not a plain file`;
  }
  for (const [path, digest] of expected)
    if ((await sha256File(join(folder, path))) !== digest) return `${path} has changed`;
  return null;
}

export function isBelow(path: string, prefixes: readonly string[]): boolean {
  return prefixes.some((prefix) => path === prefix || path.startsWith(`${prefix}/`));
}

async function listEverything(folder: string): Promise<FolderEntry[]> {
  const found: FolderEntry[] = [];
  const walk = async (components: readonly string[]): Promise<void> => {
    const entries = await readdir(join(folder, ...components), { withFileTypes: true });
    // By code point: UTF-8 sorts as code points do.
    entries.sort((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)));
    for (const entry of entries) {
      const here = [...components, entry.name];
      if (entry.isDirectory()) await walk(here);
      else found.push({ path: here.join('/'), plain: entry.isFile() });
      if (found.length > mostEntries) throw new Error(`the folder holds more than ${mostEntries} files`);
    }
  };
  await walk([]);
  return found;
}
