import { cp, mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  encodeSafetensors,
  openTensors,
  packageRoot,
  readSafetensors,
  type Tensor,
  vocabularyDifference,
  writeSafetensors,
  writeTensors,
} from '../../src/kit/index.ts';

let root: string;
let folder: string;
let count = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'cupel-tensor-stream-'));
});
beforeEach(async () => {
  folder = join(root, `${count++}`);
  await mkdir(folder);
});
afterAll(() => rm(root, { recursive: true, force: true }));

const tensor = (name: string, values: readonly number[], dtype: Tensor['dtype'] = 'F32'): Tensor => ({
  name,
  dtype,
  shape: [values.length],
  data: Float32Array.from(values),
});

describe('tensors as a stream', () => {
  it('are the bytes that are written whole, and the values that are read whole', async () => {
    const value = fc.oneof(fc.float(), fc.constantFrom(Number.NaN, Infinity, -0, 65519.99, 65520, 2 ** -24, 2 ** -25));
    const one = fc.record({
      dtype: fc.constantFrom<Tensor['dtype']>('F32', 'F16', 'BF16'),
      values: fc.array(value, { maxLength: 9 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(one, { maxLength: 5 }), async (list) => {
        const tensors = list.map(({ dtype, values }, index) => tensor(`t${index}`, values, dtype));
        const file = join(folder, 'model.safetensors');
        await writeTensors(file, tensors, ({ name }) =>
          Promise.resolve((tensors.find((each) => each.name === name) as Tensor).data),
        );
        expect(Buffer.from(await readFile(file)).equals(Buffer.from(encodeSafetensors(tensors)))).toBe(true);
        const [source, whole] = [await openTensors(folder), await readSafetensors(file)];
        const memory = new Float32Array(9);
        for (const name of source.entries.keys()) {
          expect(await source.read(name)).toEqual(whole.tensors.get(name));
          expect(await source.read(name, memory)).toEqual(whole.tensors.get(name));
        }
        expect([...source.entries.keys()]).toEqual([...whole.tensors.keys()]);
        await source.close();
      }),
      { numRuns: 60 },
    );
  });

  it('leave no part behind when a value can not be had, and keep what was there', async () => {
    const file = join(folder, 'model.safetensors');
    await writeSafetensors(file, [tensor('a', [1])]);
    const before = await readFile(file);
    const failing = writeTensors(file, [tensor('a', [1]), tensor('b', [2])], ({ name }) =>
      name === 'a' ? Promise.resolve(Float32Array.of(1)) : Promise.reject(new Error('disk')),
    );
    await expect(failing).rejects.toThrow('disk');
    const short = writeTensors(file, [tensor('a', [1, 2])], () => Promise.resolve(Float32Array.of(1)));
    await expect(short).rejects.toMatchObject({ code: 'CUPEL_SAFETENSORS_TENSOR' });
    expect(await readdir(folder)).toEqual(['model.safetensors']);
    expect(await readFile(file)).toEqual(before);
  });

  it('come from shards, and no tensor may be in two of them', async () => {
    const index = (map: unknown): Promise<void> =>
      writeFile(join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map: map }));
    await writeSafetensors(join(folder, 'one.safetensors'), [tensor('b', [1]), tensor('c', [2])]);
    await writeSafetensors(join(folder, 'two.safetensors'), [tensor('a', [3])]);
    await index({ a: 'two.safetensors', b: 'one.safetensors', c: 'one.safetensors' });
    const source = await openTensors(folder);
    expect([...source.entries.keys()]).toEqual(['a', 'b', 'c']);
    expect([...(await source.read('a')).data]).toEqual([3]);
    await expect(source.read('d')).rejects.toMatchObject({ code: 'CUPEL_SAFETENSORS_INDEX' });
    await source.close();
    await writeSafetensors(join(folder, 'two.safetensors'), [tensor('b', [3])]);
    await expect(openTensors(folder)).rejects.toMatchObject({ code: 'CUPEL_SAFETENSORS_INDEX' });
  });

  it.each([
    ['no weights', null, 'CUPEL_SAFETENSORS_INDEX'],
    ['an index that is no JSON', '{', 'CUPEL_SAFETENSORS_INDEX'],
    ['an index of nothing', 'null', 'CUPEL_SAFETENSORS_INDEX'],
    ['a shard that leads elsewhere', '{"weight_map":{"a":"../x.safetensors"}}', 'CUPEL_SAFETENSORS_INDEX'],
    ['a shard with another name', '{"weight_map":{"a":"weights.bin"}}', 'CUPEL_SAFETENSORS_INDEX'],
    ['a shard that is not there', '{"weight_map":{"a":"x.safetensors"}}', 'CUPEL_FILE_MISSING'],
  ])('refuse a folder with %s', async (_, text, code) => {
    if (text !== null) await writeFile(join(folder, 'model.safetensors.index.json'), text);
    await expect(openTensors(folder)).rejects.toMatchObject({ code });
  });

  it('are refused where the file is cut off, before and after it was opened', async () => {
    const file = join(folder, 'model.safetensors');
    await writeSafetensors(file, [tensor('a', [1, 2, 3, 4])]);
    const source = await openTensors(folder);
    const { length } = await readFile(file);
    await truncate(file, length - 4);
    await expect(source.read('a')).rejects.toMatchObject({ code: 'CUPEL_SAFETENSORS_TRUNCATED' });
    await source.close();
    await expect(openTensors(folder)).rejects.toMatchObject({ code: 'CUPEL_SAFETENSORS_TRUNCATED' });
    await truncate(file, 4);
    await expect(openTensors(file)).rejects.toMatchObject({ code: 'CUPEL_SAFETENSORS_TRUNCATED' });
  });
});

describe('the difference of two vocabularies', () => {
  const base = join(packageRoot(), 'fixtures/base');

  it('is none of a copy, nor where one has no tokenizer', async () => {
    expect(await vocabularyDifference(base, folder)).toBeNull();
    await cp(join(base, 'tokenizer.json'), join(folder, 'tokenizer.json'));
    expect(await vocabularyDifference(base, folder)).toBeNull();
  });

  it('names a token, or the merges', async () => {
    const tokenizer = JSON.parse(await readFile(join(base, 'tokenizer.json'), 'utf8')) as {
      model: { vocab: Record<string, number>; merges: string[][] };
    };
    const { vocab, merges } = tokenizer.model;
    const write = (model: object): Promise<void> =>
      writeFile(
        join(folder, 'tokenizer.json'),
        JSON.stringify({ ...tokenizer, model: { ...tokenizer.model, ...model } }),
      );
    // Older files write a merge as one text.
    await write({ merges: merges.map((pair) => pair.join(' ')) });
    expect(await vocabularyDifference(base, folder)).toBeNull();
    await write({ merges: merges.toReversed() });
    expect(await vocabularyDifference(base, folder)).toBe('the merges of the tokenizers differ');
    await write({ vocab: { ...vocab, zzz: 9999 } });
    expect(await vocabularyDifference(base, folder)).toBe(
      '1 tokens differ: "zzz" has id 9999 in one and no id in the other',
    );
  });
});
