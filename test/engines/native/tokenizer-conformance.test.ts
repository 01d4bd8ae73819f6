import { existsSync, mkdtempSync, readFileSync, rmSync, copyFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { addon } from '../../../engines/native/addon.ts';
import { packageRoot } from '../../../src/kit/index.ts';

/**
 * Recorded tokenizations with the vocabularies that they need. The vocabularies belong to the models' authors and are
 * large, so they are not part of this repository: CUPEL_CONFORMANCE names the folder that has them.
 */
const folder = resolve(process.env['CUPEL_CONFORMANCE'] ?? join(packageRoot(), '../shared/conformance'), 'engine');

interface Case {
  readonly text: string;
  readonly ids: readonly number[];
}

function cases(name: string): Case[] {
  const lines = readFileSync(join(folder, 'tokenizer', `${name}.jsonl`), 'utf8')
    .trimEnd()
    .split('\n');
  return lines.map((line) => JSON.parse(line) as Case);
}

function check(path: string, recorded: readonly Case[], parseSpecial: boolean): void {
  const ids = addon().tokenizeWith(
    path,
    recorded.map((one) => one.text),
    parseSpecial,
  );
  recorded.forEach((one, index) => expect(ids[index], JSON.stringify(one.text)).toEqual(one.ids));
}

describe.skipIf(!existsSync(folder))('recorded tokenizations (skipped where CUPEL_CONFORMANCE has none)', () => {
  it.each(['gpt-2', 'qwen2'])('are met by the vocabulary of the GGUF file of %s', (name) => {
    const recorded = cases(name);
    expect(recorded.length).toBeGreaterThan(30);
    check(join(folder, 'vocab', `ggml-vocab-${name}.gguf`), recorded, false);
  });

  it('are met by a tokenizer.json that cuts digits one by one', () => {
    const path = mkdtempSync(join(tmpdir(), 'cupel-tokenizer-'));
    try {
      copyFileSync(join(folder, 'vocab/smollm-local-tiny.tokenizer.json'), join(path, 'tokenizer.json'));
      check(path, cases('smollm-local-tiny'), true);
    } finally {
      rmSync(path, { recursive: true });
    }
  });
});
