import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Progress } from '../../src/contracts/index.ts';
import { openProject, type Project } from '../../src/jobs/project.ts';
import { planRecipe } from '../../src/jobs/recipe-plan.ts';
import { runSweep } from '../../src/jobs/sweep.ts';
import { trainRecipe } from '../../src/jobs/train-recipe.ts';
import { isCupelError } from '../../src/kit/index.ts';
import { loadRecipe } from '../../src/plugins/recipe.ts';
import { recipeFolder } from '../lib/recipe.ts';

const command = 'cupel train recipe.yaml --trust';

/** A trainer that computes elsewhere: what comes back is the base, and a line for each training that was made. */
const copier = `
import { appendFileSync, cpSync } from 'node:fs';
import { join } from 'node:path';
export default {
  kind: 'trainer',
  version: '1.0.0',
  summary: 'Hands back the base',
  needs: 'model',
  options: {
    type: 'object',
    additionalProperties: false,
    properties: { method: { type: 'string' }, epochs: { type: 'integer', default: 1 }, batchSize: { type: 'integer' }, dtype: {} },
  },
  plan: async (job) => ({ steps: 2, tokens: 10, labelledTokens: 5, memoryBytes: 2 ** 60, seconds: null, parameters: 1, trainableParameters: 1 }),
  train: async (job, sink) => {
    if (job.learner || job.openLearner !== null || job.model === null || job.validation !== null) throw new Error('not elsewhere');
    cpSync(job.base.path, job.output, { recursive: true });
    appendFileSync(join(job.work, '..', 'made.txt'), job.seed + '\\n');
    for (const step of [1, 2]) sink({ type: 'step', step, steps: 2, loss: 1, metrics: {}, tokens: 5 });
    return { steps: 2, trainedTokens: 10, metrics: {}, losses: [1, 1] };
  },
};
`;

function elsewhere(fields: Readonly<Record<string, unknown>> = {}) {
  const made = recipeFolder({
    trainer: 'copier',
    validation: { suite: './desk', metric: 'acc', limit: 5 },
    ...fields,
  });
  made.write('copier.ts', copier);
  made.write('cupel.config.yaml', 'project: desk\nplugins: [./copier.ts]\n');
  const open = (notes: string[] = [], signal = new AbortController().signal): Promise<Project> => {
    const progress: Progress = {
      note: (text) => void notes.push(text),
      begin: () => ({ advance: () => {}, detail: () => {}, end: () => {} }),
    };
    return openProject({
      config: join(made.folder, 'cupel.config.yaml'),
      trust: true,
      threads: 1,
      progress,
      signal,
    });
  };
  const trainings = (): number =>
    existsSync(join(made.folder, '.cupel/training/made.txt'))
      ? readFileSync(join(made.folder, '.cupel/training/made.txt'), 'utf8').trim().split('\n').length
      : 0;
  const record = () =>
    JSON.parse(readFileSync(join(made.folder, '.cupel/candidates/first.json'), 'utf8')) as {
      training: { trainer: string; validation?: { metric: string; points: { step: number; value: number }[] } };
    };
  return { ...made, open, trainings, record };
}

test('what is computed elsewhere is measured once, when it is finished, on as many cases as the recipe says', async () => {
  const { recipe, open, record, folder } = elsewhere();
  const planned = await planRecipe(await open(), await loadRecipe(recipe));
  expect(planned.trainer).toBe('copier@1.0.0');
  // The memory of another machine is not compared with that of this one.
  expect(planned.availableBytes).toBeNull();
  expect(planned.validation).toEqual({ metric: 'desk/acc', everySteps: null, patience: null, limit: 5 });
  const notes: string[] = [];
  const project = await open(notes);
  const result = await trainRecipe(project, await loadRecipe(recipe), { command });
  expect(result.validation).toMatchObject([{ step: 2, best: true }]);
  // Of five cases.
  expect((result.validation[0]?.value ?? 0.5) * 5).toBeCloseTo(Math.round((result.validation[0]?.value ?? 0.5) * 5), 9);
  expect(record().training.validation).toEqual({ metric: 'desk/acc', points: result.validation });
  expect(await project.runs.list()).toEqual([]);
  expect(existsSync(join(folder, '.cupel/training/first/validation'))).toBe(false);
  expect(notes.join('\n')).toMatch(/desk\/acc \d\.\d{4}, of the finished checkpoint/);
});

test('a measurement that fails loses no weights, and --resume makes it alone', async () => {
  const { recipe, open, record, trainings, folder } = elsewhere();
  const interruption = new AbortController();
  const stopped: unknown = await trainRecipe(await open([], interruption.signal), await loadRecipe(recipe), {
    command,
    onEvent: (event) => {
      if (event.type === 'step' && event.step === 2) interruption.abort(130);
    },
  }).catch((error: unknown) => error);
  expect(isCupelError(stopped) && [stopped.code, stopped.remedy]).toEqual([
    'CUPEL_RECIPE_INTERRUPTED',
    `Measure it with: ${command} --resume`,
  ]);
  expect(existsSync(join(folder, '.cupel/candidates/first/model.safetensors'))).toBe(true);
  expect(record().training.validation).toBeUndefined();
  const again = async () => trainRecipe(await open(), await loadRecipe(recipe), { command, resume: true });
  expect((await again()).validation).toHaveLength(1);
  expect(record().training.validation?.points).toHaveLength(1);
  await again();
  expect(trainings()).toBe(1);
});

test('a sweep of what is computed elsewhere measures every member', async () => {
  const { recipe, open } = elsewhere({ sweep: { seeds: 2 } });
  const result = await runSweep(await open(), await loadRecipe(recipe), { command });
  expect(result.candidates.map(({ values }) => values.length)).toEqual([1, 2]);
  // The base came back: there is nothing to tell apart.
  expect(result.candidates[1]).toMatchObject({ difference: 0, decision: 'no difference shown' });
});
