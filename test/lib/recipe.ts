import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { onTestFinished } from 'vitest';
import { stringify } from 'yaml';
import type { Progress } from '../../src/contracts/index.ts';
import { openBareProject, type Project } from '../../src/jobs/project.ts';
import { root } from './cli.ts';

export interface RecipeFolder {
  readonly folder: string;
  /** Path of the recipe. */
  readonly recipe: string;
  readonly write: (path: string, content: string) => string;
  /** Writes the recipe with other fields; undefined takes one out. */
  readonly configure: (fields: Readonly<Record<string, unknown>>) => string;
}

/**
 * A folder with nothing but a byte-level model of 86,000 parameters, 20 rows, a suite of 12 cases and a recipe: small
 * enough to train in a second, and all of it real.
 */
export function recipeFolder(fields: Readonly<Record<string, unknown>> = {}): RecipeFolder {
  const folder = mkdtempSync(join(tmpdir(), 'cupel-recipe-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const write = (path: string, content: string): string => {
    const file = join(folder, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
    return file;
  };
  const model = join(root, 'fixtures/reference/e2e');
  mkdirSync(join(folder, 'base'));
  for (const name of [
    'config.json',
    'model.safetensors',
    'tokenizer.json',
    'tokenizer_config.json',
    'chat_template.jinja',
  ])
    cpSync(join(model, name), join(folder, 'base', name));
  const rows = readFileSync(join(model, 'sft.jsonl'), 'utf8');
  write('rows.jsonl', rows);
  write('pairs.jsonl', readFileSync(join(model, 'dpo.jsonl'), 'utf8'));
  write(
    'desk/suite.yaml',
    stringify({
      id: 'desk',
      version: '1.0.0',
      layer: 'A',
      title: 'Desk',
      licence: 'CC0-1.0',
      task: 'choice',
      prompt: { messages: [{ role: 'user', content: '{{question}}' }] },
      decoding: { maxTokens: 8 },
      validators: [{ use: 'choice' }],
      metrics: [
        { name: 'acc', title: 'Right option', direction: 'higher', kind: 'rate' },
        { name: 'acc_norm', title: 'Right option by length', direction: 'higher', kind: 'rate' },
      ],
      splits: { validation: 'validation.jsonl', test: 'test.jsonl' },
    }),
  );
  const cases = (ask: (question: string, index: number) => string): string =>
    rows
      .trim()
      .split('\n')
      .slice(0, 12)
      .map((line, index) => {
        const { messages } = JSON.parse(line) as { messages: { content: string }[] };
        const [, question = '', answer] = messages.map(({ content }) => content);
        const options = [answer, '{"category": "praise", "urgency": "none"}'];
        const input = { question: ask(question, index), options };
        return `${JSON.stringify({ id: `c${index}`, input, target: 0 })}\n`;
      })
      .join('');
  write(
    'desk/validation.jsonl',
    cases((question) => question),
  );
  // What no row asks.
  write(
    'desk/test.jsonl',
    cases((_, index) => `What about case ${index}?`),
  );
  const recipe = join(folder, 'recipe.yaml');
  const configure = (more: Readonly<Record<string, unknown>>): string =>
    write(
      'recipe.yaml',
      stringify(JSON.parse(JSON.stringify({ ...defaults, ...fields, ...more })) as Record<string, unknown>),
    );
  configure({});
  return { folder, recipe, write, configure };
}

const defaults = {
  base: './base',
  method: 'sft',
  data: 'rows.jsonl',
  output: 'first',
  epochs: 2,
  batchSize: 4,
  dtype: 'f32',
};

/** The project of a recipe that stands alone. @param notes takes what progress tells */
export function recipeProject(recipe: string, signal?: AbortSignal, notes: string[] = []): Promise<Project> {
  const progress: Progress = {
    note: (text) => void notes.push(text),
    log: (text) => void notes.push(text),
    begin: () => ({ advance: () => {}, detail: () => {}, end: () => {} }),
  };
  return openBareProject(recipe, { progress, signal: signal ?? new AbortController().signal, threads: 1 });
}
