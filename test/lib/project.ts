import { mkdtempSync, readFileSync, rmSync, writeFileSync, mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { onTestFinished } from 'vitest';
import { stringify } from 'yaml';
import { root } from './cli.ts';

export const basePath = join(root, 'fixtures', 'base');

export interface SmallProject {
  readonly folder: string;
  readonly config: string;
  /** Writes a file below the project. */
  write(path: string, content: string): string;
  /** Writes the config again with other fields. */
  configure(fields: Readonly<Record<string, unknown>>): void;
}

/**
 * A project of a user in a folder of its own: the tiny base, 48 training tickets, a suite of 40 validation tickets and a
 * policy. Small enough for a whole loop in a test; everything in it is real.
 */
export function smallProject(fields: Readonly<Record<string, unknown>> = {}): SmallProject {
  const folder = mkdtempSync(join(tmpdir(), 'cupel-project-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const write = (path: string, content: string): string => {
    const file = join(folder, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
    return file;
  };
  const first = (file: string, count: number, from = 0): string =>
    `${readFileSync(join(root, file), 'utf8')
      .trim()
      .split('\n')
      .slice(from, from + count)
      .join('\n')}\n`;

  const suite = readFileSync(join(root, 'suites/tickets/suite.yaml'), 'utf8');
  write(
    'triage/suite.yaml',
    suite
      .replace('id: tickets', 'id: triage')
      .replace(/splits:[\s\S]*$/, 'splits:\n  validation: cases/validation.jsonl\n'),
  );
  write('triage/cases/validation.jsonl', first('suites/tickets/cases/validation.jsonl', 40));
  write('tickets.jsonl', first('fixtures/tickets/train.jsonl', 48));
  write(
    'policy.yaml',
    stringify({
      version: 1,
      primary: { metric: 'triage/all_five' },
      guards: { critical: [{ metric: 'triage/valid_json', margin: 0.2 }], watch: [{ metric: 'triage/category' }] },
      bootstrap: { resamples: 500, seed: 3 },
    }),
  );
  const configure = (more: Readonly<Record<string, unknown>>): void => {
    write('cupel.config.yaml', stringify({ ...defaults, ...fields, ...more }));
  };
  configure({});
  return { folder, config: join(folder, 'cupel.config.yaml'), write, configure };
}

const defaults = {
  project: 'small',
  store: '.cupel',
  seed: 3,
  threads: 2,
  split: 'validation',
  policy: 'policy.yaml',
  validityMetric: 'triage/valid_json',
  checkpoints: { base: { path: basePath, role: 'base' } },
  datasets: { tickets: 'tickets.jsonl' },
  pipeline: [
    { name: 'evaluate base', evaluate: { checkpoint: 'base', suites: ['./triage'] } },
    { name: 'adopt base', adopt: { checkpoint: 'base' } },
    {
      name: 'train sft',
      train: {
        checkpoint: 'sft',
        trainer: 'sft',
        base: 'base',
        data: 'tickets',
        parameters: { epochs: 6, batchSize: 8, learningRate: 0.001 },
      },
    },
    { name: 'evaluate sft', evaluate: { checkpoint: 'sft', suites: ['./triage'] } },
    { name: 'gate sft', gate: { candidate: 'sft' } },
    { name: 'promote sft', promote: { candidate: 'sft' } },
    { name: 'report', report: { checkpoints: ['base', 'sft'] } },
  ],
};
