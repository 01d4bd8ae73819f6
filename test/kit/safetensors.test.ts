import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeSafetensors,
  encodeSafetensors,
  isCupelError,
  readSafetensors,
  writeSafetensors,
  type Tensor,
} from '../../src/kit/index.ts';

const tensor = (name: string, dtype: Tensor['dtype'], shape: number[], values: number[]): Tensor => ({
  name,
  dtype,
  shape,
  data: Float32Array.from(values),
});

function raw(header: string, data: number): Uint8Array {
  const text = new TextEncoder().encode(header);
  const bytes = new Uint8Array(8 + text.length + data);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  return bytes;
}

function codeOf(bytes: Uint8Array): string {
  try {
    decodeSafetensors(bytes, 'model.safetensors');
  } catch (error) {
    return isCupelError(error) ? error.code : `not coded: ${String(error)}`;
  }
  return 'accepted';
}

describe('safetensors files', () => {
  it('come back as they were written', async () => {
    const file = join(await mkdtemp(join(tmpdir(), 'cupel-safetensors-')), 'model.safetensors');
    const written = [
      tensor('b', 'F32', [2, 2], [1, -2.5, 0.1, 3e30]),
      tensor('a', 'BF16', [3], [1, -0.5, 256]),
      tensor('c', 'F16', [], [0.25]),
    ];
    await writeSafetensors(file, written, { made: 'test' });
    const { tensors, metadata } = await readSafetensors(file);
    expect([...tensors.keys()]).toEqual(['a', 'b', 'c']);
    for (const { name, shape, data, dtype } of written) expect(tensors.get(name)).toEqual({ name, shape, data, dtype });
    expect(metadata).toEqual({ format: 'pt', made: 'test' });
  });

  it('have equal bytes whatever the order of the tensors', () => {
    const [a, b] = [tensor('a', 'F32', [1], [1]), tensor('b', 'F32', [1], [2])];
    expect(encodeSafetensors([a, b])).toEqual(encodeSafetensors([b, a]));
  });

  it('round half precision to nearest even, with subnormals, overflow and NaN', () => {
    const cases: [number, number][] = [
      [1 / 3, 0.333251953125],
      [2049, 2048],
      [2051, 2052],
      [65519, 65504],
      [65520, Infinity],
      [2 ** -24, 2 ** -24],
      [2 ** -25, 0],
      [-(2 ** -15), -(2 ** -15)],
      [1023.9999, 1024],
    ];
    const read = decodeSafetensors(
      encodeSafetensors([
        tensor(
          'x',
          'F16',
          [cases.length],
          cases.map(([value]) => value),
        ),
      ]),
      'x',
    );
    expect([...(read.tensors.get('x')?.data ?? [])]).toEqual(cases.map(([, rounded]) => rounded));
    const bfloat = decodeSafetensors(encodeSafetensors([tensor('x', 'BF16', [4], [257, 259, 3.4e38, NaN])]), 'x');
    expect([...(bfloat.tensors.get('x')?.data ?? [])]).toEqual([256, 260, Infinity, NaN]);
  });

  it('keep every value that f16 can hold', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0x7bff }), fc.boolean(), (bits, negative) => {
        const exponent = bits >> 10;
        const value =
          (negative ? -1 : 1) *
          (exponent === 0 ? (bits & 1023) * 2 ** -24 : (1024 + (bits & 1023)) * 2 ** (exponent - 25));
        expect(
          decodeSafetensors(encodeSafetensors([tensor('x', 'F16', [1], [value])]), 'x').tensors.get('x')?.data[0],
        ).toBe(value);
      }),
    );
  });

  it.each([
    ['too short for a header length', new Uint8Array(7), 'CUPEL_SAFETENSORS_TRUNCATED'],
    ['a header longer than the file', raw('{}', 0).slice(0, 9), 'CUPEL_SAFETENSORS_TRUNCATED'],
    ['an absurd header length', new Uint8Array(8).fill(255), 'CUPEL_SAFETENSORS_HEADER'],
    ['a header that is not JSON', raw('{"a":', 0), 'CUPEL_SAFETENSORS_HEADER'],
    ['a header that is a list', raw('[]', 0), 'CUPEL_SAFETENSORS_HEADER'],
    ['data cut off', raw('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 4), 'CUPEL_SAFETENSORS_TRUNCATED'],
    [
      'data that no tensor owns',
      raw('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', 8),
      'CUPEL_SAFETENSORS_HEADER',
    ],
    ['an unknown dtype', raw('{"a":{"dtype":"F8","shape":[1],"data_offsets":[0,1]}}', 1), 'CUPEL_SAFETENSORS_TENSOR'],
    ['a lying shape', raw('{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,4]}}', 4), 'CUPEL_SAFETENSORS_TENSOR'],
    ['a negative shape', raw('{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', 4), 'CUPEL_SAFETENSORS_TENSOR'],
    [
      'overlapping tensors',
      raw(
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        4,
      ),
      'CUPEL_SAFETENSORS_TENSOR',
    ],
    ['metadata that is not text', raw('{"__metadata__":{"a":1}}', 0), 'CUPEL_SAFETENSORS_HEADER'],
  ])('are refused with %s', (_, bytes, code) => {
    expect(codeOf(bytes)).toBe(code);
  });

  it('never crash on damaged bytes', () => {
    const good = encodeSafetensors([tensor('a', 'F32', [2], [1, 2]), tensor('b', 'BF16', [1], [3])]);
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.nat(255), fc.nat(good.length), (at, value, length) => {
        const damaged = good.slice(0, length);
        if (at < length) damaged[at] = value;
        expect(codeOf(damaged)).not.toMatch(/^not coded/);
      }),
    );
  });

  it('name the file that is missing', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'cupel-safetensors-'));
    await expect(readSafetensors(join(folder, 'none'))).rejects.toMatchObject({ code: 'CUPEL_FILE_MISSING' });
    await writeFile(join(folder, 'empty'), '');
    await expect(readSafetensors(join(folder, 'empty'))).rejects.toMatchObject({
      code: 'CUPEL_SAFETENSORS_TRUNCATED',
      exit: 2,
    });
  });
});
