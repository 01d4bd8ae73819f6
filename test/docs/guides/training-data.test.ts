import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseTrainingData } from '../../../src/data/index.ts';
import { packageRoot } from '../../../src/kit/index.ts';
import { trainingChecks } from '../../../src/train/checks/table.ts';
import { collectErrorCodes } from '../../../scripts/lib/error-codes.ts';
import { formats } from '../../data/formats.ts';

const guide = await readFile(join(packageRoot(), 'docs/guides/training-data.md'), 'utf8');

test('every example of the guide is read, and every format has one', () => {
  const examples = [...guide.matchAll(/^```jsonl\n(.*?)^```$/gms)].map(([, text]) => text ?? '');
  expect(examples.length).toBeGreaterThan(10);
  const found = examples.flatMap((text) => Object.keys(parseTrainingData(text, 'training-data.md').formats));
  expect([...new Set(found)].sort()).toEqual([...new Set(formats.map(([, format]) => format))].sort());
});

test('the guide has the table of traps as the source has it', () => {
  for (const { row, trap, check, codes } of trainingChecks) {
    const line = guide.split('\n').find((text) => new RegExp(`^\\| ${row} +\\|`).test(text)) ?? '';
    for (const part of [trap, check, ...codes]) expect(line).toContain(part);
  }
});

test('every code that the guide names is declared or raised', async () => {
  const declared = new Set((await collectErrorCodes(packageRoot())).map(({ code }) => code));
  // Told as a warning of the loop, and never thrown.
  declared.add('CUPEL_TRAIN_MERGE_DIFFERS');
  const named = [...guide.matchAll(/\[(CUPEL_\w+)\]/g)].map(([, code]) => code);
  expect(named.length).toBeGreaterThan(20);
  expect(named.filter((code) => !declared.has(code ?? ''))).toEqual([]);
});
