import { open, type FileHandle } from 'node:fs/promises';
import { storeErrors } from './errors.ts';

/**
 * Appends whole texts to a file, one after another whatever the callers overlap. A failed write is cut off again, and
 * the file takes nothing more: what it then holds is a prefix of what was asked for.
 */
export class AppendFile {
  readonly #path: string;
  #handle: FileHandle | null = null;
  #size = 0;
  #unsynced = 0;
  #tail: Promise<void> = Promise.resolve();
  #failed: Error | null = null;

  constructor(path: string) {
    this.#path = path;
  }

  /** @param syncEvery the file is flushed to the disk after that many appends. */
  append(text: string, syncEvery: number): Promise<void> {
    const turn = this.#tail.then(() => this.#write(Buffer.from(text), syncEvery));
    this.#tail = turn.catch(() => undefined);
    return turn;
  }

  /** Waits for what was asked for, and flushes it to the disk. */
  async sync(): Promise<void> {
    await this.#tail;
    if (this.#failed !== null) throw this.#failed;
    if (this.#unsynced > 0) await this.#handle?.datasync();
    this.#unsynced = 0;
  }

  async close(): Promise<void> {
    await this.#tail;
    await this.#handle?.close();
    this.#handle = null;
  }

  async #write(bytes: Buffer, syncEvery: number): Promise<void> {
    if (this.#failed !== null) throw this.#failed;
    try {
      if (this.#handle === null) {
        this.#handle = await open(this.#path, 'a');
        this.#size = (await this.#handle.stat()).size;
      }
      for (let written = 0; written < bytes.length;) {
        written += (await this.#handle.write(bytes, written)).bytesWritten;
      }
      this.#size += bytes.length;
      this.#unsynced++;
      if (this.#unsynced >= syncEvery) {
        await this.#handle.datasync();
        this.#unsynced = 0;
      }
    } catch (cause) {
      await this.#handle?.truncate(this.#size).catch(() => undefined);
      this.#failed = storeErrors.CUPEL_STORE_WRITE_FAILED({
        message: (cause as Error).message,
        where: this.#path,
        cause,
      });
      throw this.#failed;
    }
  }
}
