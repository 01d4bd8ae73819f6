import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import pLimit from 'p-limit';
import { canonicalJson } from './canonical-json.ts';

/** Hex sha256 of text (UTF-8) or bytes. */
export function sha256(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}

/** `sha256:<hex>` over the canonical JSON of a value. */
export function digestOf(value: unknown): string {
  return `sha256:${sha256(canonicalJson(value))}`;
}

/** Hex sha256 of a file, streamed. */
export async function sha256File(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/**
 * Relative paths (with `/`) and hex digests of all files below a folder, sorted by path components.
 * `.git*` entries are skipped, symbolic links are not followed.
 */
export async function listFileDigests(folder: string): Promise<{ path: string; sha256: string }[]> {
  const found: string[][] = [];
  const walk = async (components: string[]): Promise<void> => {
    for (const entry of await readdir(join(folder, ...components), { withFileTypes: true })) {
      if (entry.name.startsWith('.git')) continue;
      if (entry.isDirectory()) await walk([...components, entry.name]);
      else if (entry.isFile()) found.push([...components, entry.name]);
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

/** Digest of a folder: over the paths and digests of its files. */
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
