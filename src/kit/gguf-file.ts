import { readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';

/**
 * The GGUF file of a checkpoint: the path itself if it is such a file, or the only one in a folder that has no
 * model.safetensors and no index of shards (with these it is a Hugging Face one). null: there is none, or several.
 */
export async function ggufFileOf(path: string): Promise<string | null> {
  const found = await stat(path).catch(() => null);
  if (found === null) return null;
  if (!found.isDirectory()) return isGguf(basename(path)) ? path : null;
  const names = await readdir(path).catch((): string[] => []);
  if (names.includes('model.safetensors') || names.includes('model.safetensors.index.json')) return null;
  const [only, ...more] = names.filter(isGguf);
  return only === undefined || more.length > 0 ? null : join(path, only);
}

function isGguf(name: string): boolean {
  return name.toLowerCase().endsWith('.gguf');
}
