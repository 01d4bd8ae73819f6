import { readFile } from 'node:fs/promises';
import { writeFileAtomic } from './files.ts';
import { kitErrors } from './kit-errors.ts';

/** Element types that are read and written here; values are f32 in memory. */
export type TensorDtype = 'F32' | 'F16' | 'BF16';

/** A named tensor, row-major. `data.length` is the product of `shape` (1 for an empty shape). */
export interface Tensor {
  readonly name: string;
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

export interface Safetensors {
  readonly tensors: ReadonlyMap<string, Tensor>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** Where a tensor lies in a file: bytes from the start of the data. */
export interface TensorEntry {
  readonly name: string;
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

/** Largest header that the format allows, in bytes. */
const maxHeaderBytes = 100_000_000;
const dtypeBytes: Readonly<Record<TensorDtype, number>> = { F32: 4, F16: 2, BF16: 2 };

/**
 * Reads a safetensors file. The file is not trusted: every length, shape and offset is checked before use.
 * Format: https://github.com/huggingface/safetensors (8-byte little-endian header length, JSON header, data).
 * @throws CUPEL_FILE_MISSING, CUPEL_SAFETENSORS_TRUNCATED, CUPEL_SAFETENSORS_HEADER, CUPEL_SAFETENSORS_TENSOR
 */
export async function readSafetensors(file: string): Promise<Safetensors> {
  let bytes: Buffer;
  try {
    bytes = await readFile(file);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    if (code === 'ENOENT')
      throw kitErrors.CUPEL_FILE_MISSING({ message: `${file} does not exist`, where: file, cause });
    throw kitErrors.CUPEL_FILE_UNREADABLE({
      message: `${file} could not be read (${code ?? 'unknown'})`,
      where: file,
      cause,
    });
  }
  return decodeSafetensors(bytes, file);
}

/** Writes tensors in the order of their names, so that equal tensors give equal bytes. */
export async function writeSafetensors(
  file: string,
  tensors: Iterable<Tensor>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  await writeFileAtomic(file, encodeSafetensors(tensors, metadata));
}

/** The bytes of a safetensors file. F16 and BF16 are rounded to nearest, ties to even. */
export function encodeSafetensors(
  tensors: Iterable<Tensor>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const sorted = [...tensors].sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const tensor of sorted) {
    const expected = elementsOf(tensor.shape);
    if (expected !== tensor.data.length) {
      throw kitErrors.CUPEL_SAFETENSORS_TENSOR({
        message: `tensor "${tensor.name}" has shape [${tensor.shape.join(', ')}] and ${tensor.data.length} values`,
        where: tensor.name,
      });
    }
  }
  const { head, dataBytes } = encodeHeader(sorted, metadata);
  const bytes = new Uint8Array(head.length + dataBytes);
  bytes.set(head);
  let position = head.length;
  for (const { dtype, data } of sorted) {
    const encoded = encodeValues(data, dtype);
    bytes.set(encoded, position);
    position += encoded.length;
  }
  return bytes;
}

/**
 * Length and JSON header of a file whose tensors lie in this order, without gaps.
 * @throws CUPEL_SAFETENSORS_TENSOR where a name occurs twice
 */
export function encodeHeader(
  tensors: readonly Pick<Tensor, 'name' | 'dtype' | 'shape'>[],
  metadata: Readonly<Record<string, string>>,
): { readonly head: Uint8Array; readonly dataBytes: number } {
  // Without a prototype, a tensor named like one of its members is a name like any other.
  const header = Object.assign(Object.create(null) as Record<string, unknown>, {
    __metadata__: { format: 'pt', ...metadata },
  });
  let offset = 0;
  for (const { name, dtype, shape } of tensors) {
    if (Object.hasOwn(header, name)) {
      throw kitErrors.CUPEL_SAFETENSORS_TENSOR({ message: `the tensor name "${name}" occurs twice`, where: name });
    }
    const end = offset + elementsOf(shape) * dtypeBytes[dtype];
    header[name] = { dtype, shape, data_offsets: [offset, end] };
    offset = end;
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const headerLength = Math.ceil(text.length / 8) * 8;
  const head = new Uint8Array(8 + headerLength);
  new DataView(head.buffer).setBigUint64(0, BigInt(headerLength), true);
  head.fill(0x20, 8);
  head.set(text, 8);
  return { head, dataBytes: offset };
}

/** Parses the bytes of a safetensors file; `file` names it in errors. */
export function decodeSafetensors(bytes: Uint8Array, file: string): Safetensors {
  const headerLength = headerLengthOf(bytes, bytes.length, file);
  const start = 8 + headerLength;
  const { entries, metadata } = decodeHeader(bytes.subarray(8, start), bytes.length - start, file);
  const tensors = new Map<string, Tensor>();
  for (const { name, dtype, shape, begin, end } of entries.values()) {
    tensors.set(name, { name, dtype, shape, data: decodeValues(bytes.subarray(start + begin, start + end), dtype) });
  }
  return { tensors, metadata };
}

/** Bytes of the JSON header, of a file that starts with `bytes`. @throws CUPEL_SAFETENSORS_TRUNCATED, _HEADER */
export function headerLengthOf(bytes: Uint8Array, fileLength: number, file: string): number {
  const truncated = (message: string): Error => kitErrors.CUPEL_SAFETENSORS_TRUNCATED({ message, where: file });
  if (bytes.length < 8) throw truncated(`the file has ${bytes.length} bytes, fewer than the 8 of the header length`);
  const headerLength = Number(new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true));
  if (headerLength > maxHeaderBytes) {
    throw kitErrors.CUPEL_SAFETENSORS_HEADER({
      message: `the header claims ${headerLength} bytes; the limit is ${maxHeaderBytes}`,
      where: file,
    });
  }
  if (8 + headerLength > fileLength) {
    throw truncated(`the header claims ${headerLength} bytes; the file has ${fileLength - 8} after its length`);
  }
  return headerLength;
}

/**
 * The checked JSON header of a file with `available` bytes of data.
 * @throws CUPEL_SAFETENSORS_TRUNCATED, CUPEL_SAFETENSORS_HEADER, CUPEL_SAFETENSORS_TENSOR
 */
export function decodeHeader(
  bytes: Uint8Array,
  available: number,
  file: string,
): { readonly entries: ReadonlyMap<string, TensorEntry>; readonly metadata: Readonly<Record<string, string>> } {
  const header = parseHeader(bytes, file);
  const entries = new Map<string, TensorEntry>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const checked = checkEntry(name, entry, file);
    if (checked.end > available) {
      throw kitErrors.CUPEL_SAFETENSORS_TRUNCATED({
        message: `tensor "${name}" ends at byte ${checked.end}; the file has ${available} bytes of data`,
        where: file,
      });
    }
    entries.set(name, { name, ...checked });
  }
  checkCover([...entries.values()], available, file);
  return { entries, metadata: checkMetadata(header['__metadata__'], file) };
}

/** Values of a tensor from its bytes. */
function decodeValues(bytes: Uint8Array, dtype: TensorDtype): Float32Array {
  const values = new Float32Array(bytes.length / dtypeBytes[dtype]);
  storedPart(values, dtype).set(bytes);
  return widen(values, dtype);
}

/** The end of the memory of `values`, as long as the tensor is in a file. */
export function storedPart(values: Float32Array, dtype: TensorDtype): Uint8Array {
  const bytes = values.length * dtypeBytes[dtype];
  return new Uint8Array(values.buffer, values.byteOffset + values.byteLength - bytes, bytes);
}

/**
 * Widens in place what lies in `storedPart`: no second copy of a tensor is ever needed, because value i ends before
 * half i + 1 begins. The machines that this runs on are little-endian, as the format is.
 */
export function widen(values: Float32Array, dtype: TensorDtype): Float32Array {
  if (dtype === 'F32') return values;
  const stored = storedPart(values, dtype);
  const halves = new Uint16Array(stored.buffer, stored.byteOffset, values.length);
  if (dtype === 'F16') {
    for (let index = 0; index < values.length; index++) values[index] = fromHalf(halves[index] as number);
  } else {
    const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
    for (let index = 0; index < bits.length; index++) bits[index] = (halves[index] as number) << 16;
  }
  return values;
}

/** Bytes of a tensor from its values; F16 and BF16 are rounded to nearest, ties to even. */
export function encodeValues(data: Float32Array, dtype: TensorDtype): Uint8Array {
  if (dtype === 'F32') return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const halves = new Uint16Array(data.length);
  if (dtype === 'F16') {
    for (let index = 0; index < halves.length; index++) halves[index] = toHalf(data[index] as number);
  } else {
    const bits = new Uint32Array(data.buffer, data.byteOffset, data.length);
    for (let index = 0; index < halves.length; index++) halves[index] = toBfloat(bits[index] as number);
  }
  return new Uint8Array(halves.buffer);
}

function elementsOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

function parseHeader(bytes: Uint8Array, file: string): Record<string, unknown> {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw kitErrors.CUPEL_SAFETENSORS_HEADER({
      message: `the header is not JSON: ${(cause as Error).message}`,
      where: file,
      cause,
    });
  }
  if (!isRecord(header))
    throw kitErrors.CUPEL_SAFETENSORS_HEADER({ message: 'the header is not a JSON object', where: file });
  return header;
}

function checkMetadata(metadata: unknown, file: string): Record<string, string> {
  if (metadata === undefined) return {};
  if (!isRecord(metadata) || Object.values(metadata).some((value) => typeof value !== 'string')) {
    throw kitErrors.CUPEL_SAFETENSORS_HEADER({ message: '__metadata__ is not an object of texts', where: file });
  }
  return metadata as Record<string, string>;
}

function checkEntry(
  name: string,
  entry: unknown,
  file: string,
): { dtype: TensorDtype; shape: number[]; begin: number; end: number } {
  const refuse = (message: string): Error =>
    kitErrors.CUPEL_SAFETENSORS_TENSOR({ message: `tensor "${name}" ${message}`, where: `${file}: ${name}` });
  if (!isRecord(entry)) throw refuse('is not described by an object');
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== 'string' || !Object.hasOwn(dtypeBytes, dtype)) {
    throw refuse(`has dtype ${JSON.stringify(dtype) ?? 'nothing'}; known are ${Object.keys(dtypeBytes).join(', ')}`);
  }
  if (!isSizes(shape)) throw refuse(`has shape ${JSON.stringify(shape) ?? 'nothing'}; a list of sizes was expected`);
  if (!isSizes(offsets) || offsets.length !== 2)
    throw refuse(`has data_offsets ${JSON.stringify(offsets) ?? 'nothing'}; [begin, end] was expected`);
  const [begin, end] = offsets as [number, number];
  const expected = shape.reduce((product, size) => product * size, dtypeBytes[dtype as TensorDtype]);
  if (end - begin !== expected) {
    throw refuse(`has ${end - begin} bytes; dtype ${dtype} and shape [${shape.join(', ')}] need ${expected}`);
  }
  return { dtype: dtype as TensorDtype, shape, begin, end };
}

/** The tensors must cover the data without overlap and without holes, so that nothing can hide in the file. */
function checkCover(ranges: TensorEntry[], available: number, file: string): void {
  ranges.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let position = 0;
  for (const { name, begin, end } of ranges) {
    if (begin !== position) {
      throw kitErrors.CUPEL_SAFETENSORS_TENSOR({
        message: `tensor "${name}" begins at byte ${begin}; the one before ends at ${position}`,
        where: `${file}: ${name}`,
      });
    }
    position = end;
  }
  if (position !== available) {
    throw kitErrors.CUPEL_SAFETENSORS_HEADER({
      message: `the tensors end at byte ${position}; the file has ${available} bytes of data`,
      where: file,
    });
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

const scratch = new DataView(new ArrayBuffer(4));

/** From the bits of an f32; a NaN stays one. */
function toBfloat(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** IEEE 754 binary16, rounded to nearest even. */
function toHalf(value: number): number {
  scratch.setFloat32(0, value);
  const bits = scratch.getUint32(0);
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = Math.abs(scratch.getFloat32(0));
  if (Number.isNaN(magnitude)) return sign | 0x7e00;
  if (magnitude >= 65520) return sign | 0x7c00;
  // Below 2^-14 steps are 2^-24 (subnormal); above, 2^-10 of the power of two. A carry into the next binade is right by itself.
  if (magnitude < 2 ** -14) return sign | roundEven(magnitude * 2 ** 24);
  const exponent = ((bits >>> 23) & 0xff) - 127;
  return sign | (((exponent + 14) << 10) + roundEven(magnitude * 2 ** (10 - exponent)));
}

function fromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 0x1f;
  const mantissa = bits & 0x3ff;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  if (exponent === 31) return mantissa === 0 ? sign * Infinity : NaN;
  return sign * (1024 + mantissa) * 2 ** (exponent - 25);
}

function roundEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}
