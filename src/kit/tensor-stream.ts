import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readText } from './files.ts';
import { kitErrors } from './kit-errors.ts';
import {
  decodeHeader,
  encodeHeader,
  encodeValues,
  headerLengthOf,
  storedPart,
  type Tensor,
  type TensorDtype,
  type TensorEntry,
  widen,
} from './safetensors.ts';

/** Tensors of a checkpoint that are read one at a time: no more than one is in memory for who lets go of the last. */
export interface TensorSource {
  /** By name, in order of name. */
  readonly entries: ReadonlyMap<string, Pick<TensorEntry, 'name' | 'dtype' | 'shape'>>;
  /**
   * @param memory where the values are put, if it is long enough: who reads many tensors needs no new memory for each.
   * @throws CUPEL_SAFETENSORS_TRUNCATED where the file has become shorter since it was opened
   */
  read(name: string, memory?: Float32Array): Promise<Tensor>;
  close(): Promise<void>;
}

interface OpenFile {
  readonly file: string;
  readonly handle: FileHandle;
  readonly start: number;
  readonly entries: ReadonlyMap<string, TensorEntry>;
}

/**
 * Opens the weights of a checkpoint folder (`model.safetensors`, or the shards of `model.safetensors.index.json`), or a
 * single safetensors file. Headers are read and checked; the data is not.
 * @throws CUPEL_SAFETENSORS_INDEX, and the errors of `readSafetensors`
 */
export async function openTensors(path: string): Promise<TensorSource> {
  const files = path.endsWith('.safetensors') ? [path] : await filesOf(path);
  const opened: OpenFile[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(opened.map(({ handle }) => handle.close()));
  };
  try {
    for (const file of files) opened.push(await openFile(file));
    const owners = new Map<string, OpenFile>();
    for (const one of opened) {
      for (const name of one.entries.keys()) {
        const other = owners.get(name);
        if (other !== undefined) throw refused(path, `tensor "${name}" is in ${other.file} and in ${one.file}`);
        owners.set(name, one);
      }
    }
    const names = [...owners.keys()].sort();
    return {
      entries: new Map(names.map((name) => [name, owners.get(name)?.entries.get(name) as TensorEntry])),
      async read(name, memory) {
        const owner = owners.get(name);
        const entry = owner?.entries.get(name);
        if (owner === undefined || entry === undefined) throw refused(path, `there is no tensor "${name}"`);
        const { dtype, shape, begin } = entry;
        const length = shape.reduce((product, size) => product * size, 1);
        const fits = memory !== undefined && memory.length >= length;
        const data = fits ? memory.subarray(0, length) : new Float32Array(length);
        await readInto(storedPart(data, dtype), owner.handle, owner.start + begin, owner.file);
        return { name, dtype, shape, data: widen(data, dtype) };
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/**
 * Writes a safetensors file whose values are asked for one tensor at a time, in order of name, so that equal tensors
 * give equal bytes. A file of that name is replaced only by a whole one.
 */
export async function writeTensors(
  file: string,
  tensors: Iterable<Pick<Tensor, 'name' | 'dtype' | 'shape'>>,
  valuesOf: (tensor: { readonly name: string; readonly dtype: TensorDtype }) => Promise<Float32Array>,
): Promise<void> {
  const sorted = [...tensors].sort((a, b) => (a.name < b.name ? -1 : 1));
  const { head } = encodeHeader(sorted, {});
  await mkdir(dirname(file), { recursive: true });
  const temporary = `${file}.${randomBytes(6).toString('hex')}.tmp`;
  const handle = await open(temporary, 'w');
  try {
    await writeAll(handle, head);
    for (const tensor of sorted) {
      const values = await valuesOf(tensor);
      const expected = tensor.shape.reduce((product, size) => product * size, 1);
      if (values.length !== expected) {
        throw kitErrors.CUPEL_SAFETENSORS_TENSOR({
          message: `tensor "${tensor.name}" has shape [${tensor.shape.join(', ')}] and ${values.length} values`,
          where: file,
        });
      }
      await writeAll(handle, encodeValues(values, tensor.dtype));
    }
    await handle.sync();
    await handle.close();
    await rename(temporary, file);
  } catch (error) {
    await handle.close().catch(() => undefined);
    await rm(temporary, { force: true });
    throw error;
  }
}

/** Paths of the files that hold the weights of a folder. */
async function filesOf(folder: string): Promise<string[]> {
  const single = join(folder, 'model.safetensors');
  const index = join(folder, 'model.safetensors.index.json');
  if (!existsSync(index)) {
    if (existsSync(single)) return [single];
    throw refused(folder, 'there is neither model.safetensors nor model.safetensors.index.json');
  }
  let map: unknown;
  try {
    map = (JSON.parse(await readText(index)) as { weight_map?: unknown } | null)?.weight_map;
  } catch (cause) {
    throw refused(index, `it is not JSON: ${(cause as Error).message}`);
  }
  const names = typeof map === 'object' && map !== null ? [...new Set(Object.values(map))] : [];
  if (names.length === 0) throw refused(index, 'it has no weight_map');
  // A shard lies beside its index: the name of a file, and nothing that leads elsewhere.
  const stranger = names.find((name) => typeof name !== 'string' || !/^[^/\\]+\.safetensors$/.test(name));
  if (stranger !== undefined) throw refused(index, `${JSON.stringify(stranger)} is not the name of a shard`);
  return (names as string[]).sort().map((name) => join(folder, name));
}

async function openFile(file: string): Promise<OpenFile> {
  let handle: FileHandle;
  try {
    handle = await open(file, 'r');
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    if (code === 'ENOENT')
      throw kitErrors.CUPEL_FILE_MISSING({ message: `${file} does not exist`, where: file, cause });
    throw kitErrors.CUPEL_FILE_UNREADABLE({ message: `${file}: ${code ?? 'unknown'}`, where: file, cause });
  }
  try {
    const { size } = await handle.stat();
    const first = await readExactly(handle, 0, Math.min(8, size), file);
    const headerLength = headerLengthOf(first, size, file);
    const start = 8 + headerLength;
    const { entries } = decodeHeader(await readExactly(handle, 8, headerLength, file), size - start, file);
    return { file, handle, start, entries };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** A read takes at most this many bytes: the system call has a limit of 2 GiB. */
const pieceBytes = 1 << 28;

async function readExactly(handle: FileHandle, position: number, length: number, file: string): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  await readInto(bytes, handle, position, file);
  return bytes;
}

async function readInto(bytes: Uint8Array, handle: FileHandle, position: number, file: string): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    const length = Math.min(pieceBytes, bytes.length - done);
    const { bytesRead } = await handle.read(bytes, done, length, position + done);
    if (bytesRead === 0) {
      throw kitErrors.CUPEL_SAFETENSORS_TRUNCATED({
        message: `the file ends at byte ${position + done}; ${bytes.length - done} more were expected`,
        where: file,
      });
    }
    done += bytesRead;
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    done += (await handle.write(bytes, done, Math.min(pieceBytes, bytes.length - done))).bytesWritten;
  }
}

function refused(where: string, message: string): Error {
  return kitErrors.CUPEL_SAFETENSORS_INDEX({ message, where });
}
