import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { cupel, root } from '../lib/cli.ts';
import { writeTinyCheckpoint } from '../support/tiny-checkpoint.ts';

let checkpoint: string;
let scratch: string;
let text: string;

beforeAll(async () => {
  checkpoint = await writeTinyCheckpoint({ seed: 2 });
  scratch = await mkdtemp(join(tmpdir(), 'cupel-quantize-'));
  text = join(scratch, 'text.txt');
  await writeFile(text, 'The order is late. Where is it? '.repeat(12));
});
afterAll(async () => {
  for (const folder of [checkpoint, scratch]) await rm(folder, { recursive: true });
});

test('a checkpoint is written, measured, and evaluated like any other', async () => {
  const file = join(scratch, 'tiny-q8_0.gguf');
  const made = cupel(
    `quantize ${checkpoint} -o ${file} --type q8_0 --pre gpt-2 --check --text ${text} --kv q8_0 --json --quiet`.split(
      ' ',
    ),
  );
  expect(made.stderr).toBe('');
  expect(made.status).toBe(0);
  const { written, checked } = JSON.parse(made.stdout) as {
    written: { path: string; bytes: number };
    checked: Record<string, unknown>[];
  };
  expect(written.path).toBe(file);
  expect(existsSync(file)).toBe(true);
  expect(checked.map(({ name, kvCache }) => [name, kvCache])).toEqual([
    [expect.stringContaining('cupel-'), 'f32'],
    ['tiny-q8_0.gguf', 'f32'],
    ['tiny-q8_0.gguf', 'q8_0'],
  ]);
  for (const one of checked.slice(1)) expect(one['meanDivergence']).toBeGreaterThan(0);

  // The base, because the tickets do not fit into the context of the other.
  const base = join(scratch, 'base.gguf');
  expect(cupel(['quantize', join(root, 'fixtures/base'), '-o', base, '--type', 'bf16', '--pre', 'gpt-2']).status).toBe(
    0,
  );
  const config = join(scratch, 'cupel.config.yaml');
  await writeFile(config, `project: quantized\nsplit: all\nstore: ${join(scratch, 'store')}\n`);
  const run = cupel([
    'run',
    'tickets',
    '--checkpoint',
    base,
    '-c',
    config,
    '--split',
    'test',
    '-n',
    '2',
    '--json',
    '--quiet',
  ]);
  expect(run.stderr).toBe('');
  expect(JSON.parse(run.stdout)).toMatchObject([{ suite: 'tickets', cases: 2, errors: 0 }]);

  const again = cupel(['quantize', checkpoint, '-o', file, '--type', 'q8_0']);
  expect(again.status).toBe(2);
  expect(again.stderr).toContain('CUPEL_QUANTIZE_TARGET: the target exists already');
}, 60_000);

test('a check prints a line a model, the reference first', () => {
  const { status, stdout } = cupel(
    `quantize --check ${checkpoint} --weights w8a8 --text ${text} --window 16`.split(' '),
  );
  expect(status).toBe(0);
  const lines = stdout.split('\n');
  expect(lines[0]).toMatch(/^model +weights +kv +memory +perplexity +change +mean KL +99 % KL +max KL +same top$/);
  expect(lines[1]).toMatch(/ as-stored +f32 +[\d.]+ MB +[\d.]+$/);
  expect(lines[2]).toMatch(/ w8a8 +f32 .*\d %$/);
});

test('what can not be done is refused before anything is written', () => {
  const refused = (given: string): string => {
    const { status, stderr } = cupel(given.split(' '));
    expect(status, given).toBe(2);
    return stderr;
  };
  expect(refused('quantize')).toContain('name a checkpoint');
  expect(refused(`quantize ${checkpoint}`)).toContain('give a target to write with -o, or --check');
  expect(refused(`quantize ${checkpoint} -o ${scratch}/x.gguf`)).toContain('--type is missing');
  expect(refused(`quantize ${checkpoint} -o ${scratch}/x.gguf --type q2_k`)).toContain('Name one of: q8_0, q4_0');
  expect(refused(`quantize ${checkpoint} -o ${scratch}/x --type q8_0`)).toContain('ends in .gguf');
  expect(refused(`quantize ${checkpoint} -o ${scratch}/x.gguf --type w8a8`)).toContain('is written as a folder');
  expect(refused(`quantize --check ${checkpoint}`)).toContain('--check needs a text');
  expect(refused(`quantize --check ${checkpoint} --text ${text} --kv q4_0`)).toContain('--kv does not know "q4_0"');
  expect(refused(`quantize --check ${scratch}/none.gguf --text ${text}`)).toContain('CUPEL_CHECKPOINT_UNKNOWN');
  const missing = `quantize ${checkpoint} -o ${scratch}/x.gguf --type q8_0 --pre gpt-2 --check --text ${scratch}/none.txt`;
  expect(refused(missing)).toContain('none.txt');
  expect(existsSync(join(scratch, 'x.gguf'))).toBe(false);
}, 60_000);
