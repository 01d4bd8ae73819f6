import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  Random,
  canonicalJson,
  checkAgainst,
  compileSchema,
  defineErrors,
  digestFolder,
  digestOf,
  formatError,
  isCupelError,
  nearest,
  parseJsonl,
  philox,
  readText,
  writeFileAtomic,
} from '../../src/kit/index.ts';

const caught = (work: () => unknown): unknown => {
  try {
    work();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
};

test('canonical JSON has sorted keys, no white space, and leaves undefined members out', () => {
  expect(canonicalJson({ b: [1, 'é', null], a: { d: true, c: undefined } })).toBe('{"a":{"d":true},"b":[1,"é",null]}');
});

test('canonical JSON parses back to the same value whatever the order of the keys', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const text = canonicalJson(value);
      expect(canonicalJson(JSON.parse(text))).toBe(text);
    }),
  );
});

test('canonical JSON refuses what JSON cannot hold, and says where', () => {
  expect(caught(() => canonicalJson({ scores: [0, Number.NaN] }))).toMatchObject({
    code: 'CUPEL_KIT_NOT_CANONICAL',
    where: '$.scores[1]',
  });
});

test('Philox gives the numbers of the reference implementation', () => {
  // Random123 kat_vectors, philox4x32 10 rounds: counter 0, key 0.
  expect(philox([0, 0, 0, 0], [0, 0])).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
  const ones = 0xffffffff;
  expect(philox([ones, ones, ones, ones], [ones, ones])).toEqual([0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
});

test('streams of one seed are independent of the order of use', () => {
  const first = new Random(7, 'a');
  const second = new Random(7, 'b');
  const a = [first.uint32(), first.uint32()];
  second.uint32();
  expect([new Random(7, 'a').uint32()]).toEqual(a.slice(0, 1));
  expect(new Random(7, 'b').uint32()).not.toBe(a[0]);
});

test('random integers stay in range and shuffles keep their items', () => {
  fc.assert(
    fc.property(
      fc.nat(),
      fc.integer({ min: 1, max: 1000 }),
      fc.array(fc.nat(), { maxLength: 50 }),
      (seed, bound, items) => {
        const random = new Random(seed);
        const value = random.integer(bound);
        expect(value >= 0 && value < bound).toBe(true);
        expect(random.shuffle(items).sort()).toEqual([...items].sort());
        const real = random.next();
        expect(real >= 0 && real < 1).toBe(true);
      },
    ),
  );
});

test('a bad line of JSONL is named with file and line', () => {
  expect(caught(() => parseJsonl('{"a":1}\n\n{"b":', 'rows.jsonl'))).toMatchObject({
    code: 'CUPEL_JSONL_INVALID',
    where: 'rows.jsonl:3',
  });
});

test('a missing file, a folder in place of a file: one coded error each', async () => {
  await expect(readText('/nowhere/at/all')).rejects.toMatchObject({ code: 'CUPEL_FILE_MISSING' });
  await expect(readText(tmpdir())).rejects.toMatchObject({ code: 'CUPEL_FILE_UNREADABLE' });
});

test('an atomic write leaves no temporary file behind', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'cupel-kit-'));
  await writeFileAtomic(join(folder, 'deep/file.txt'), 'one');
  await writeFileAtomic(join(folder, 'deep/file.txt'), 'two');
  expect(await readText(join(folder, 'deep/file.txt'))).toBe('two');
  expect(await readdir(join(folder, 'deep'))).toEqual(['file.txt']);
  await rm(folder, { recursive: true });
});

test('a folder digest changes with any byte and any name', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'cupel-kit-'));
  await writeFile(join(folder, 'a'), 'x');
  const before = await digestFolder(folder);
  await writeFile(join(folder, 'a'), 'y');
  const changed = await digestFolder(folder);
  await writeFile(join(folder, 'b'), '');
  expect(new Set([before, changed, await digestFolder(folder)]).size).toBe(3);
  await rm(folder, { recursive: true });
});

test('a folder digest follows links to files and refuses what else could be read', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'cupel-kit-'));
  await writeFile(join(folder, 'blob'), 'one');
  await mkdir(join(folder, 'snapshot'));
  await symlink('../blob', join(folder, 'snapshot', 'model'));
  const before = await digestFolder(join(folder, 'snapshot'));
  await writeFile(join(folder, 'blob'), 'two');
  expect(await digestFolder(join(folder, 'snapshot'))).not.toBe(before);
  await symlink('..', join(folder, 'snapshot', 'up'));
  await expect(digestFolder(join(folder, 'snapshot'))).rejects.toMatchObject({ code: 'CUPEL_FILE_UNREADABLE' });
  await rm(folder, { recursive: true });
});

const person = compileSchema(
  {
    type: 'object',
    additionalProperties: false,
    required: ['name'],
    properties: { name: { type: 'string' }, threads: { type: 'integer' } },
  },
  'test',
);

test('an unknown field is named with the near name that was meant', () => {
  expect(caught(() => checkAgainst(person, { name: 'x', thread: 2 }, 'my.yaml'))).toMatchObject({
    code: 'CUPEL_FIELD_UNKNOWN',
    message: 'unknown field "thread"; did you mean "threads"?',
    where: 'my.yaml: the document',
  });
});

test('a wrong type is named with path and value', () => {
  expect(caught(() => checkAgainst(person, { name: 'x', threads: 'two' }, 'my.yaml'))).toMatchObject({
    code: 'CUPEL_FIELD_INVALID',
    message: 'threads must be integer (is "two")',
    where: 'my.yaml: threads',
  });
});

test('inherited names do not satisfy a schema, and asynchronous or remote schemas are refused', () => {
  const needs = compileSchema({ type: 'object', required: ['toString'] }, 'test');
  expect(needs({})).toBe(false);
  expect(caught(() => compileSchema({ $async: true, type: 'string' }, 's'))).toMatchObject({
    code: 'CUPEL_SCHEMA_INVALID',
  });
  expect(caught(() => compileSchema({ $ref: 'https://example.com/s.json' }, 's'))).toMatchObject({
    code: 'CUPEL_SCHEMA_INVALID',
  });
  let deep: object = { type: 'string' };
  for (let i = 0; i < 100; i++) deep = { items: deep };
  expect(caught(() => compileSchema(deep, 's'))).toMatchObject({ code: 'CUPEL_SCHEMA_INVALID' });
});

test('a schema may refer to itself', () => {
  const tree = compileSchema(
    { type: 'object', properties: { left: { $ref: '#' }, value: { type: 'integer' } }, required: ['value'] },
    'test',
  );
  expect(tree({ value: 1, left: { value: 2 } })).toBe(true);
  expect(tree({ value: 1, left: {} })).toBe(false);
});

test('errors are known by their mark, print code, place and remedy', () => {
  const errors = defineErrors({ CUPEL_TEST_ONE: { exit: 2, what: 'a thing', mend: 'mend the thing' } });
  const error = errors.CUPEL_TEST_ONE({ message: 'it is 5', where: 'a.yaml:3' });
  expect(isCupelError(error)).toBe(true);
  expect(isCupelError(new Error('x'))).toBe(false);
  expect(formatError(error)).toBe('CUPEL_TEST_ONE: it is 5\n  at: a.yaml:3\n  mend: mend the thing');
});

test('near names are suggested, far ones are not', () => {
  expect(nearest('urgancy', ['category', 'urgency'])).toBe('urgency');
  expect(nearest('zebra', ['category', 'urgency'])).toBe(null);
});

test('digests are of canonical form', () => {
  expect(digestOf({ b: 1, a: 2 })).toBe(digestOf({ a: 2, b: 1 }));
});
