import { afterEach, expect, test } from 'vitest';
import * as print from '../../src/cli/print-training.ts';
import { openProgress } from '../../src/cli/progress.ts';
import { recipeJsonSchema } from '../../src/plugins/recipe.ts';
import { cupel } from '../lib/cli.ts';

const noColour = process.env['NO_COLOR'];
afterEach(() => {
  if (noColour === undefined) delete process.env['NO_COLOR'];
  else process.env['NO_COLOR'] = noColour;
});

const example = {
  type: 'example' as const,
  id: 'line-1',
  runs: [
    { text: 'Where?\n', trained: false },
    { text: 'There.\u001b[2J', trained: true },
  ],
};

test('what is trained stands in brackets; colour comes beside them, never alone, and data cannot steer the terminal', () => {
  expect(print.example(example)).toBe('  example line-1 (trained in brackets): Where?\\n[There.\\u001b[2J]');
  delete process.env['NO_COLOR'];
  expect(print.example(example, { isTTY: true })).toContain('\u001b[32m[There.\\u001b[2J]\u001b[39m');
  process.env['NO_COLOR'] = '1';
  expect(print.example(example, { isTTY: true })).not.toContain('\u001b');
});

test('notes keep line ends and colours; whatever else could steer the terminal is written out', () => {
  const said: string[] = [];
  openProgress({ write: (text) => said.push(text) }, 'notes').note(
    'a\n\u001b[32mb\u001b[39m \u001b[2J\r\u0007\u202e日本',
  );
  expect(said).toEqual(['a\n\u001b[32mb\u001b[39m \\u001b[2J\\r\\u0007\\u202e日本\n']);
});

test('flags that would do nothing are refused', () => {
  const wrong = (...args: string[]): string => {
    const { status, stderr } = cupel(['train', ...args]);
    return `${status} ${stderr.split('\n')[0]}`;
  };
  expect(wrong('recipe.yaml', '-o', 'out')).toMatch(/^2 CUPEL_CLI_USAGE: --output is the folder of --export/);
  expect(wrong('--export', 'axolotl', '--checkpoint', 'x', '--trainer', 'sft')).toBe(
    '2 CUPEL_CLI_USAGE: --export goes with a recipe',
  );
});

test('a long run of text is cut in its middle, so that both ends can be checked', () => {
  const text = `begin${'x'.repeat(500)}end`;
  const line = print.example({ ...example, runs: [{ text, trained: true }] });
  expect(line).toContain('[begin');
  expect(line).toContain('xend]');
  expect(line.length).toBeLessThan(300);
});

test('a sweep is a table with the decision of each candidate and the reason of the choice', () => {
  const nothing = { difference: null, low: null, high: null, pValue: null, adjustedP: null, cases: 0, clusters: 0 };
  const text = print.sweep({
    checkpoint: 'tuned',
    digest: 'sha256:00',
    path: '/store/candidates/tuned',
    metric: 'desk/acc',
    rate: true,
    cases: 120,
    level: 0.95,
    reference: 'as written',
    seeds: [0, 1],
    candidates: [
      { name: 'as written', values: [0.5, 0.52], mean: 0.51, spread: 0.014, ...nothing, decision: 'reference' },
      {
        name: 'learningRate=0.01',
        values: [0.6, null],
        mean: 0.6,
        spread: null,
        difference: 0.09,
        low: -0.02,
        high: 0.2,
        pValue: 0.1,
        adjustedP: 0.1,
        decision: 'no difference shown',
        cases: 120,
        clusters: 120,
      },
    ],
    chosen: { candidate: 'as written', seed: 1, reason: 'No candidate is shown to be better.' },
    notes: ['values are optimistic'],
  });
  expect(text.split('\n').map((line) => line.trimEnd())).toEqual([
    'desk/acc on split validation, 120 cases, percent; compared with "as written"',
    '',
    'candidate          seeds      mean  between seeds  difference  95 % interval      p  decision',
    'as written *       50.0 52.0  51.0          ± 1.4           –  –                  –  reference',
    'learningRate=0.01  60.0 –     60.0              –        +9.0  -2.0 to +20.0  0.100  no difference shown',
    '',
    '* No candidate is shown to be better.',
    '  values are optimistic',
    '',
    'tuned  sha256:00',
    '  /store/candidates/tuned',
  ]);
});

test('seldom lines are shown where there is no live line, and never when quiet', () => {
  let text = '';
  const stream = { write: (part: string) => (text += part) };
  openProgress(stream, 'notes').log?.('step 10');
  expect(text).toBe('step 10\n');
  expect(Object.keys(openProgress(stream, 'live'))).not.toContain('log');
  expect(Object.keys(openProgress(stream, 'quiet'))).not.toContain('log');
});

test('--schema prints the published schema', () => {
  const { status, stdout } = cupel(['train', '--schema']);
  expect(status).toBe(0);
  expect(JSON.parse(stdout)).toEqual(recipeJsonSchema());
});
