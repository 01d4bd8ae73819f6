import { randomBytes } from 'node:crypto';
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { kitErrors } from './kit-errors.ts';

/** Reads a UTF-8 file. @throws CUPEL_FILE_MISSING, CUPEL_FILE_UNREADABLE */
export async function readText(path: string, namedBy?: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    const where = namedBy ?? path;
    if (code === 'ENOENT') throw kitErrors.CUPEL_FILE_MISSING({ message: `${path} does not exist`, where, cause });
    throw kitErrors.CUPEL_FILE_UNREADABLE({
      message: `${path} could not be read (${code ?? 'unknown'})`,
      where,
      cause,
    });
  }
}

/** Writes a file so that after a crash either the old or the new content is there, never a part. */
export async function writeFileAtomic(path: string, content: string | Uint8Array): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  try {
    const handle = await open(temporary, 'w');
    try {
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (error) {
    // A disk that is full is not to stay full because of a part.
    await rm(temporary, { force: true }).catch(() => {});
    throw error;
  }
}

/** Reads a JSON file that this program wrote. @throws CUPEL_FILE_MISSING, CUPEL_FILE_UNREADABLE, CUPEL_JSON_INVALID */
export async function readJson<T>(path: string): Promise<T> {
  const text = await readText(path);
  try {
    return JSON.parse(text) as T;
  } catch (cause) {
    throw kitErrors.CUPEL_JSON_INVALID({
      message: `not JSON: ${(cause as Error).message}`,
      where: path,
      remedy: 'The file was changed or damaged. Remove it, and repeat the command that made it.',
      cause,
    });
  }
}
