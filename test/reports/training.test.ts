import { expect, test } from 'vitest';
import { renderScorecard } from '../../reports/scorecard/index.ts';
import type { ReportInput } from '../../src/contracts/index.ts';
import { scanHtml, textWithin } from './html-scan.ts';
import { makeReportInput, SCENARIOS } from './report-inputs.ts';

const plain = makeReportInput(SCENARIOS.promote);
const training: NonNullable<ReportInput['training']> = {
  ...(plain.training as NonNullable<ReportInput['training']>),
  steps: 40,
  losses: Array.from({ length: 40 }, (_, step) => 2 / (step + 1)),
  learningRates: Array.from({ length: 40 }, (_, step) => 1e-3 * (1 - step / 40)),
  validation: {
    metric: 'tickets/all_five',
    points: [
      { step: 10, value: 0.5, best: true },
      { step: 20, value: 0.75, best: true },
      { step: 30, value: null, best: false },
      { step: 40, value: 0.7, best: false },
    ],
  },
  bestStep: 20,
  settings: [
    { name: 'learningRate', value: 0.001, from: 'recipe' },
    { name: 'tuning', value: { kind: 'lora', rank: '<img src=x onerror=alert(1)>' }, from: 'effort balanced' },
  ],
};

function sectionOf(input: ReportInput): { text: string; elements: ReturnType<typeof scanHtml> } {
  const elements = scanHtml(renderScorecard(input));
  const root = elements.find((element) => element.attributes.get('id') === 'training');
  if (root === undefined) throw new Error('no training section');
  return { text: textWithin(elements, root), elements };
}

test('loss, validation and learning rate are plots with a description and a table each', () => {
  const { text, elements } = sectionOf({ ...plain, training });
  const plots = elements
    .filter((element) => element.name === 'svg' && element.attributes.get('role') === 'img')
    .map((element) => element.attributes.get('aria-label') ?? '')
    .filter((label) => label.includes('over 40 steps'));
  expect(plots).toEqual([
    'loss over 40 steps, from 2 to 0.05. The weights of step 20 were kept. The table below has the figures.',
    'tickets/all_five over 40 steps, from 0.5 to 0.7. The weights of step 20 were kept. The table below has the figures.',
    'learning rate over 40 steps, from 0.001 to 0.000025. The table below has the figures.',
  ]);
  expect(text).toContain('Weights of step 20, best on the validation split');
  // What could not be measured is said, and is no zero; which step was kept is said in words.
  expect(text).toContain('30 not measured');
  expect(text).toContain('20 0.75, kept');
});

test('every setting of the recipe is listed with where it came from, and stays text', () => {
  const { text, elements } = sectionOf({ ...plain, training });
  expect(text).toContain('learningRate 0.001 recipe');
  expect(text).toContain('effort balanced');
  expect(elements.filter((element) => element.attributes.has('onerror'))).toEqual([]);
});

test('a training without recipe shows its loss alone', () => {
  const { text } = sectionOf(plain);
  expect(text).toContain('Training loss');
  for (const absent of ['Validation', 'Learning rate', 'Every setting', 'Weights of step'])
    expect(text).not.toContain(absent);
});
