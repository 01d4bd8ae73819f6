import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { codeRoot, formatError, isCupelError } from '../../src/kit/index.ts';
import { listSuites, loadSuite } from '../../src/plugins/suites.ts';

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'cupel-suites-'));
});
afterAll(() => rm(root, { recursive: true }));

const head = `
version: 1.0.0
layer: A
title: Echo
licence: CC0-1.0
task: generate
prompt: { messages: [{ role: user, content: 'Say {{word}}.' }] }
decoding: { maxTokens: 8 }
validators: [{ use: exact-text }]
metrics: [{ name: exact, title: Exact, direction: higher, kind: rate, weight: primary }]
`;

let count = 0;
/** Writes a suite folder of its own; `{id}` in suite.yaml becomes its name. */
async function suite(yaml: string, files: Record<string, string> = {}): Promise<string> {
  const id = `suite-${count++}`;
  const folder = join(root, id);
  await mkdir(join(folder, 'cases'), { recursive: true });
  await writeFile(join(folder, 'suite.yaml'), yaml.replace('{id}', id));
  for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), content);
  return folder;
}

const line = (id: string, extra: object = {}): string =>
  `${JSON.stringify({ id, input: { word: id }, target: id, ...extra })}\n`;

async function problem(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    if (isCupelError(error)) return formatError(error).replaceAll(root, '');
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('loading a suite', () => {
  it('reads YAML and JSONL cases of the single split `all`, in file order, with digests', async () => {
    const folder = await suite(`id: {id}${head}`, {
      'cases/a.yaml': '- id: one\n  input: { word: one }\n  target: one\n',
      'cases/b.jsonl': line('two'),
    });
    const loaded = await loadSuite(folder);
    expect(Object.keys(loaded.splits)).toEqual(['all']);
    expect(loaded.splits['all']?.map(({ id }) => id)).toEqual(['one', 'two']);
    expect(loaded.splits['all']?.[0]?.digest).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(loaded.validators).toEqual([{ use: 'exact-text', with: {} }]);
  });

  it('reads only the splits that are asked for', async () => {
    const folder = await suite(`id: {id}${head}splits: { test: cases/test.jsonl, broken: cases/broken.jsonl }`, {
      'cases/test.jsonl': line('one'),
      'cases/broken.jsonl': 'not json',
    });
    expect(Object.keys((await loadSuite(folder, { splits: ['test'] })).splits)).toEqual(['test']);
    expect(await problem(loadSuite(folder))).toContain('broken.jsonl:1');
  });

  it('inherits from the suite it extends, and its digest tells the two apart', async () => {
    const base = await suite(`id: {id}${head}splits: { test: cases/test.jsonl }`, { 'cases/test.jsonl': line('one') });
    const variant = await suite(`extends: ${base}\nid: {id}\ndecoding: { maxTokens: 4 }\n`);
    const [a, b] = [await loadSuite(base), await loadSuite(variant)];
    expect(b.decoding).toEqual({ maxTokens: 4 });
    expect(b.prompt).toEqual(a.prompt);
    expect(b.splits['test']).toEqual(a.splits['test']);
    expect(b.digest).not.toBe(a.digest);
  });

  it('gives a case the same digest whatever its examples and the order of its keys', async () => {
    const a = await suite(`id: {id}${head}`, { 'cases/a.jsonl': line('one', { examples: { pass: ['one'] } }) });
    const b = await suite(`id: {id}${head}`, {
      'cases/a.jsonl': '{"target":"one","input":{"word":"one"},"id":"one"}\n',
    });
    const [left, right] = [await loadSuite(a), await loadSuite(b)];
    expect(left.splits['all']?.[0]?.digest).toBe(right.splits['all']?.[0]?.digest);
  });

  it('tags an attack with its twin, so that rows alone tell which two belong together', async () => {
    const folder = await suite(`id: {id}${head}`, { 'cases/a.jsonl': line('attack', { twin: 'good' }) + line('good') });
    expect((await loadSuite(folder)).splits['all']?.[0]?.tags).toEqual(['twin:good']);
  });
});

describe('a planted fault is one coded message with place and remedy', () => {
  const faults: readonly [what: string, yaml: string, files: Record<string, string>, expected: readonly string[]][] = [
    [
      'unknown field with a near name',
      `id: {id}${head}metrcs: []`,
      {},
      ['CUPEL_FIELD_UNKNOWN', 'did you mean "metrics"?'],
    ],
    [
      'wrong type',
      `id: {id}${head}`.replace('maxTokens: 8', 'maxTokens: many'),
      {},
      ['CUPEL_FIELD_INVALID', 'decoding.maxTokens', '"many"'],
    ],
    ['missing field', `id: {id}${head}`.replace('licence: CC0-1.0', ''), {}, ['CUPEL_FIELD_INVALID', 'licence']],
    ['broken YAML', `id: {id}\ntitle: [`, {}, ['CUPEL_JSON_INVALID', 'suite.yaml:2']],
    [
      'alias bomb',
      `id: {id}\na: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c]\n`,
      {},
      ['CUPEL_JSON_INVALID', 'suite.yaml'],
    ],
    ['id that is not the folder', `id: other${head}`, {}, ['CUPEL_SUITE_ID', '"other"']],
    [
      'bad JSONL line 17',
      `id: {id}${head}`,
      { 'cases/a.jsonl': `${Array.from({ length: 16 }, (_, i) => line(`c${i}`)).join('')}{"id": nope}\n` },
      ['CUPEL_JSONL_INVALID', 'a.jsonl:17'],
    ],
    [
      'duplicate id',
      `id: {id}${head}`,
      { 'cases/a.jsonl': line('one') + line('two') + line('one') },
      ['CUPEL_SUITE_DUPLICATE', 'a.jsonl:3', 'a.jsonl:1'],
    ],
    [
      'duplicate metric',
      `id: {id}${head}`.replace('metrics: [', 'metrics: [{ name: exact, title: E, direction: higher, kind: rate }, '),
      {},
      ['CUPEL_SUITE_DUPLICATE', 'metrics.1'],
    ],
    [
      'unknown field of a case',
      `id: {id}${head}`,
      { 'cases/a.jsonl': line('one', { cluter: 'x' }) },
      ['CUPEL_FIELD_UNKNOWN', 'a.jsonl:1', 'did you mean "cluster"?'],
    ],
    [
      'unknown field of a YAML case',
      `id: {id}${head}`,
      { 'cases/a.yaml': '- id: a\n  input: { word: a }\n- id: b\n  input: { word: b }\n  tag: [x]\n' },
      ['CUPEL_FIELD_UNKNOWN', 'a.yaml:3', '"tags"'],
    ],
    [
      'case without input',
      `id: {id}${head}`,
      { 'cases/a.jsonl': '{"id":"one"}\n' },
      ['CUPEL_FIELD_INVALID', 'a.jsonl:1', 'input'],
    ],
    [
      'case that is not an object',
      `id: {id}${head}`,
      { 'cases/a.jsonl': '[1]\n' },
      ['CUPEL_FIELD_INVALID', 'a.jsonl:1'],
    ],
    [
      'missing target field',
      `id: {id}${head}case: { target: { type: object, required: [name] } }`,
      { 'cases/a.jsonl': line('one', { target: {} }) },
      ['CUPEL_FIELD_INVALID', 'a.jsonl:1: target', 'name'],
    ],
    [
      'field that the prompt reads',
      `id: {id}${head}`,
      { 'cases/a.jsonl': '{"id":"one","input":{"wrd":"x"}}\n' },
      ['CUPEL_SUITE_PROMPT_FIELD', 'case one', '"wrd"'],
    ],
    [
      'twin that does not exist',
      `id: {id}${head}`,
      { 'cases/a.jsonl': line('one', { twin: 'two' }) },
      ['CUPEL_SUITE_TWIN', '"two"', 'a.jsonl:1'],
    ],
    [
      'twin of a twin',
      `id: {id}${head}`,
      { 'cases/a.jsonl': line('one', { twin: 'two' }) + line('two', { twin: 'three' }) + line('three') },
      ['CUPEL_SUITE_TWIN', 'an attack'],
    ],
    ['no cases', `id: {id}${head}`, {}, ['CUPEL_SUITE_SPLIT_EMPTY', 'cases']],
    [
      'missing case file',
      `id: {id}${head}splits: { test: cases/none.jsonl }`,
      {},
      ['CUPEL_FILE_MISSING', 'none.jsonl', 'splits.test'],
    ],
    ['path out of the folder', `id: {id}${head}splits: { test: ../../etc/passwd }`, {}, ['CUPEL_SUITE_PATH']],
    [
      'case file of another kind',
      `id: {id}${head}splits: { test: cases/a.csv }`,
      { 'cases/a.csv': 'x' },
      ['CUPEL_SUITE_PATH', 'a.csv'],
    ],
    ['suite that extends itself', `extends: .\nid: {id}${head}`, {}, ['CUPEL_SUITE_EXTENDS']],
    [
      'schema that lets everything pass',
      `id: {id}${head}`.replace('maxTokens: 8', 'maxTokens: 8, jsonSchema: { $async: true }'),
      {},
      ['CUPEL_SCHEMA_INVALID'],
    ],
    [
      'pairwise without its judge',
      `id: {id}${head}`.replace('task: generate', 'task: pairwise'),
      {},
      ['CUPEL_SUITE_TASK', 'pairwise'],
    ],
    [
      'choice without options',
      `id: {id}${head}`.replace('task: generate', 'task: choice'),
      { 'cases/a.jsonl': line('one') },
      ['CUPEL_SUITE_TASK', 'options'],
    ],
    [
      'episode without a world',
      `id: {id}${head}`.replace('task: generate', 'task: episode'),
      {},
      ['CUPEL_SUITE_TASK', 'world'],
    ],
    [
      'reference that a case lacks',
      `id: {id}${head}references: [{ id: obey, title: Obey, output: { inputField: obey } }]`,
      { 'cases/a.jsonl': line('one') },
      ['CUPEL_SUITE_PROMPT_FIELD', 'obey'],
    ],
  ];
  it.each(faults)('%s', async (_, yaml, files, expected) => {
    const message = await problem(suite(yaml, files).then((folder) => loadSuite(folder)));
    for (const part of expected) expect(message).toContain(part);
    expect(message).toContain('mend: ');
  });

  it('split that is not there, with the near name', async () => {
    const folder = await suite(`id: {id}${head}splits: { validation: cases/v.jsonl }`, {
      'cases/v.jsonl': line('one'),
    });
    expect(await problem(loadSuite(folder, { splits: ['validatoin'] }))).toContain('did you mean "validation"?');
  });

  it('suite that is not there', async () => {
    expect(await problem(loadSuite(join(root, 'nowhere')))).toContain('CUPEL_FILE_MISSING');
  });

  it('case nested ten thousand deep', async () => {
    const folder = await suite(`id: {id}${head}`, {
      'cases/a.jsonl': `{"id":"one","input":{"word":"x"},"target":${'['.repeat(20_000)}${']'.repeat(20_000)}}\n`,
    });
    expect(await problem(loadSuite(folder))).toContain('CUPEL_FIELD_INVALID');
  });
});

describe('the suites of this repository', () => {
  it('are listed without an error, and their ids are their folders', async () => {
    const suites = await listSuites(join(codeRoot(), 'suites'));
    expect(suites.map(({ error }) => error)).toEqual(suites.map(() => null));
    expect(suites.map(({ id }) => id)).toContain('tickets');
  });

  it('lists a broken suite with its error and goes on', async () => {
    const folder = await suite('id: {id}\nlayer: Z\n');
    const entry = (await listSuites(root)).find(({ path }) => path === folder);
    expect(entry?.head).toBeNull();
    expect(entry?.error?.code).toBe('CUPEL_FIELD_INVALID');
  });
});
