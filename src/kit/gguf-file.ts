import { readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';

/**
 * The GGUF file of a checkpoint: the path itself if it is such a file, or the only one in a folder without config.json
 * (with a config.json the folder is a Hugging Face one). null: there is none, or there are several.
 */
export async function ggufFileOf(path: string): Promise<string | null> {
  const found = await stat(path).catch(() => null);
  if (found === null) return null;
  if (!found.isDirectory()) return isGguf(basename(path)) ? path : null;
  const names = await readdir(path).catch((): string[] => []);
  if (names.includes('config.json')) return null;
  const [only, ...more] = names.filter(isGguf);
  return only === undefined || more.length > 0 ? null : join(path, only);
}

function isGguf(name: string): boolean {
  return name.toLowerCase().endsWith('.gguf');
}
