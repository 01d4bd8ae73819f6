import { cpSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import type { TrainEvent } from '../../src/contracts/index.ts';
import { evaluateCheckpoint } from '../../src/jobs/evaluate.ts';
import { runSweep } from '../../src/jobs/sweep.ts';
import { planSweep } from '../../src/jobs/sweep-plan.ts';
import { planRecipe } from '../../src/jobs/recipe-plan.ts';
import { trainRecipe } from '../../src/jobs/train-recipe.ts';
import { isCupelError, sha256 } from '../../src/kit/index.ts';
import { loadRecipe } from '../../src/plugins/recipe.ts';
import { recipeFolder, recipeProject } from '../lib/recipe.ts';

const command = 'cupel train recipe.yaml';
const weights = (folder: string, id = 'first'): string =>
  sha256(readFileSync(join(folder, '.cupel/candidates', id, 'model.safetensors')));

async function code(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'no error',
    (error: unknown) => (isCupelError(error) ? error.code : `not coded: ${String(error)}`),
  );
}

/** Trains until a step, then interrupts as Ctrl-C does. */
async function interruptAt(recipe: string, step: number): Promise<unknown> {
  const interruption = new AbortController();
  return trainRecipe(await recipeProject(recipe, interruption.signal), await loadRecipe(recipe), {
    command,
    onEvent: (event) => {
      if (event.type === 'step' && event.step === step) interruption.abort(130);
    },
  }).catch((error: unknown) => error);
}

test('a recipe alone in a folder trains into a store beside it, without a config', async () => {
  const { folder, recipe } = recipeFolder();
  const notes: string[] = [];
  const events: TrainEvent[] = [];
  const project = await recipeProject(recipe, undefined, notes);
  const result = await trainRecipe(project, await loadRecipe(recipe), {
    command,
    onEvent: (event) => void events.push(event),
  });
  expect(result).toMatchObject({
    checkpoint: 'first',
    steps: 10,
    bestStep: null,
    path: join(folder, '.cupel/candidates/first'),
  });
  expect(events.filter(({ type }) => type === 'step')).toHaveLength(10);
  expect(events.filter(({ type }) => type === 'example')).toHaveLength(3);
  const info = JSON.parse(readFileSync(join(folder, '.cupel/candidates/first.json'), 'utf8')) as {
    training: { losses: number[]; learningRates: number[]; settings: { name: string; from: string }[] };
  };
  expect(info.training.losses).toHaveLength(10);
  expect(info.training.learningRates).toHaveLength(10);
  expect(info.training.settings.find(({ name }) => name === 'learningRate')?.from).toMatch(/^effort balanced, 0.1M/);
  // The log stays; what only an interrupted run needs does not.
  expect(existsSync(join(folder, '.cupel/training/first/log.jsonl'))).toBe(true);
  expect(existsSync(join(folder, '.cupel/training/first/checkpoints'))).toBe(false);
});

test('a preference recipe starts at ln 2, and nothing touches the network', async () => {
  const network = vi.spyOn(globalThis, 'fetch');
  const { recipe } = recipeFolder({
    method: 'dpo',
    data: 'pairs.jsonl',
    maxSteps: 1,
    parameters: { beta: 0.1, nllWeight: 0 },
  });
  const losses: number[] = [];
  await trainRecipe(await recipeProject(recipe), await loadRecipe(recipe), {
    command,
    onEvent: (event) => {
      if (event.type === 'step') losses.push(event.loss);
    },
  });
  expect(losses).toHaveLength(1);
  expect(losses[0]).toBeCloseTo(Math.log(2), 6);
  expect(network).not.toHaveBeenCalled();
  network.mockRestore();
});

test('a plan writes nothing and shows steps, tokens, memory and where each setting comes from', async () => {
  const { folder, recipe } = recipeFolder({ validation: { suite: './desk', metric: 'acc' } });
  const planned = await planRecipe(await recipeProject(recipe), await loadRecipe(recipe));
  expect(planned.plan).toMatchObject({ steps: 10 });
  expect(planned.plan.labelledTokens).toBeGreaterThan(0);
  expect(planned.plan.labelledTokens).toBeLessThan(planned.plan.tokens);
  expect(planned.plan.memoryBytes).toBeGreaterThan(0);
  expect(planned.validation).toEqual({ metric: 'desk/acc', everySteps: 2, patience: null, limit: null });
  expect(planned.settings.map(({ name }) => name)).toContain('microBatchTokens');
  expect(existsSync(join(folder, '.cupel'))).toBe(false);
});

test('interrupted and resumed, the weights and the record have the same bytes as uninterrupted', async () => {
  const fields = { validation: { suite: './desk', metric: 'acc', everySteps: 4 }, checkpoints: { everySteps: 3 } };
  const whole = recipeFolder(fields);
  await trainRecipe(await recipeProject(whole.recipe), await loadRecipe(whole.recipe), { command });

  const broken = recipeFolder(fields);
  const error = await interruptAt(broken.recipe, 5);
  expect(isCupelError(error) && [error.code, error.exit, error.remedy]).toEqual([
    'CUPEL_RECIPE_INTERRUPTED',
    130,
    `Go on with: ${command} --resume`,
  ]);
  const again = async (options: object) =>
    trainRecipe(await recipeProject(broken.recipe), await loadRecipe(broken.recipe), { command, ...options });
  // It is never guessed what becomes of the interrupted one.
  expect(await code(again({}))).toBe('CUPEL_RECIPE_UNFINISHED');
  await again({ resume: true });
  expect(weights(broken.folder)).toBe(weights(whole.folder));
  const record = (folder: string): string =>
    readFileSync(join(folder, '.cupel/candidates/first.json'), 'utf8').replaceAll(folder, '');
  expect(record(broken.folder)).toBe(record(whole.folder));
  // Finished: there is nothing to go on with, and nothing to decide.
  const before = statSync(join(broken.folder, '.cupel/candidates/first/model.safetensors')).mtimeMs;
  expect(await again({ resume: true })).toMatchObject({ steps: 10, warnings: [] });
  expect(statSync(join(broken.folder, '.cupel/candidates/first/model.safetensors')).mtimeMs).toBe(before);
  expect(await code(again({}))).toBe('no error');
});

test('a changed recipe or changed data is not resumed; --fresh starts over', async () => {
  const { recipe, configure, write } = recipeFolder({ checkpoints: { everySteps: 2 } });
  await interruptAt(recipe, 3);
  const attempt = async (options: object) =>
    trainRecipe(await recipeProject(recipe), await loadRecipe(recipe), { command, ...options });
  configure({ learningRate: 0.5 });
  expect(await code(attempt({ resume: true }))).toBe('CUPEL_TRAIN_RESUME_RECIPE');
  configure({});
  const rows = join(recipe, '..', 'rows.jsonl');
  const text = readFileSync(rows, 'utf8');
  write('rows.jsonl', text.replace('379', '380'));
  expect(await code(attempt({ resume: true }))).toBe('CUPEL_TRAIN_RESUME_DATA');
  writeFileSync(rows, text);
  expect(await code(attempt({ fresh: true }))).toBe('no error');
});

test('training stops when patience is spent, and keeps the best weights on the validation split', async () => {
  const { folder, recipe } = recipeFolder({
    epochs: 20,
    learningRate: 1e-6,
    validation: { suite: './desk', metric: 'acc', everySteps: 2, patience: 2 },
  });
  const project = await recipeProject(recipe);
  const result = await trainRecipe(project, await loadRecipe(recipe), { command });
  // With so small a rate nothing gets better: measured at 2, 4 and 6, and the first stays the best.
  expect(result).toMatchObject({ steps: 6, bestStep: 2 });
  expect(result.validation.map(({ step, best }) => [step, best])).toEqual([
    [2, true],
    [4, false],
    [6, false],
  ]);
  // What training looked at is no evidence: nothing of it stands in the project's runs.
  expect(await project.runs.list()).toEqual([]);
  expect(existsSync(join(folder, '.cupel/training/first/validation'))).toBe(false);
});

test('only a suite with a validation split and a known metric is measured by', async () => {
  const { configure, recipe, write } = recipeFolder();
  const attempt = async (): Promise<string> =>
    planRecipe(await recipeProject(recipe), await loadRecipe(recipe)).then(
      () => 'no error',
      (error: unknown) =>
        isCupelError(error) ? `${error.code} ${error.where?.split(':').at(-1)}: ${error.message}` : '',
    );
  configure({ validation: { suite: './desk', metric: 'akk' } });
  expect(await attempt()).toBe('CUPEL_RECIPE_VALIDATION 10: suite "desk" has no metric "akk"; did you mean "acc"?');
  write(
    'desk/suite.yaml',
    readFileSync(join(recipe, '../desk/suite.yaml'), 'utf8').replace('  validation:', '  other:'),
  );
  configure({ validation: { suite: './desk', metric: 'acc' } });
  expect(await attempt()).toMatch(/^CUPEL_RECIPE_VALIDATION 9: the suite "desk" has no split "validation"/);
});

test('names that are not there are errors at the line of the recipe', async () => {
  const { configure, recipe } = recipeFolder();
  const attempt = async (fields: Readonly<Record<string, unknown>>): Promise<string> => {
    configure({ ...fields });
    return planRecipe(await recipeProject(recipe), await loadRecipe(recipe)).then(
      () => 'no error',
      (error: unknown) => (isCupelError(error) ? `${error.code} ${error.where?.split('/').at(-1)}` : String(error)),
    );
  };
  expect(await attempt({ base: './bas' })).toBe('CUPEL_CHECKPOINT_UNKNOWN recipe.yaml:1');
  expect(await attempt({ data: 'row.jsonl' })).toBe('CUPEL_DATASET_UNKNOWN recipe.yaml:3');
  expect(await attempt({ method: 'stf' })).toBe('CUPEL_PLUGIN_UNKNOWN recipe.yaml:2');
  expect(await attempt({ base: './base', method: 'distillation' })).toBe('CUPEL_TRAIN_NO_TEACHER recipe.yaml:2');
  expect(await attempt({ method: 'distillation', teacher: './bas' })).toBe('CUPEL_CHECKPOINT_UNKNOWN recipe.yaml:8');
  expect(await attempt({ base: undefined })).toBe('CUPEL_ENGINE_CANNOT_LEARN recipe.yaml:1');
});

test('a log of MLflow is an address of the web or a folder beside the recipe, and nothing else', async () => {
  const { recipe, configure, folder } = recipeFolder({ maxSteps: 1 });
  const attempt = async (uri: string): Promise<string> => {
    configure({ logs: { mlflow: { uri } } });
    return code(trainRecipe(await recipeProject(recipe), await loadRecipe(recipe), { command }));
  };
  for (const uri of ['sqlite:///runs.db', 'http:runs', 'databricks:profile'])
    expect(await attempt(uri)).toBe('CUPEL_FIELD_INVALID');
  expect(await attempt('file:./runs')).toBe('no error');
  expect(existsSync(join(folder, 'runs'))).toBe(true);
});

test('paths start at the recipe, never at the current folder', async () => {
  const { recipe, configure, folder } = recipeFolder();
  const before = process.cwd();
  const here = recipeFolder();
  here.write('only-here.jsonl', readFileSync(join(here.folder, 'rows.jsonl'), 'utf8'));
  cpSync(join(here.folder, 'base'), join(here.folder, 'only-here'), { recursive: true });
  process.chdir(here.folder);
  try {
    const attempt = async (fields: Readonly<Record<string, unknown>>): Promise<string> => {
      configure(fields);
      return code(planRecipe(await recipeProject(recipe), await loadRecipe(recipe)));
    };
    expect(await attempt({})).toBe('no error');
    expect(await attempt({ data: 'only-here.jsonl' })).toBe('CUPEL_DATASET_UNKNOWN');
    expect(await attempt({ base: './only-here' })).toBe('CUPEL_CHECKPOINT_UNKNOWN');
    expect(await attempt({ base: join(here.folder, 'only-here'), data: join(folder, 'rows.jsonl') })).toBe('no error');
  } finally {
    process.chdir(before);
  }
});

test('a plan that needs more than is free is refused, unless told; recomputation is tried first', async () => {
  const { recipe } = recipeFolder();
  const free = vi.spyOn(process, 'availableMemory').mockReturnValue(1000);
  try {
    const attempt = async (options: object) =>
      trainRecipe(await recipeProject(recipe), await loadRecipe(recipe), { command, ...options });
    expect(await code(attempt({}))).toBe('CUPEL_RECIPE_MEMORY');
    const result = await attempt({ ignoreMemory: true });
    expect(result.plan.settings.find(({ name }) => name === 'recompute')).toMatchObject({
      value: true,
      from: 'memory of this machine',
    });
  } finally {
    free.mockRestore();
  }
});

test('a sweep over seeds compares with the base, keeps a typical seed, and trains nothing twice', async () => {
  const { folder, recipe } = recipeFolder({
    epochs: 4,
    learningRate: 0.005,
    validation: { suite: './desk', metric: 'acc' },
    sweep: { seeds: 2 },
  });
  const notes: string[] = [];
  const sweep = async () =>
    runSweep(await recipeProject(recipe, undefined, notes), await loadRecipe(recipe), { command });
  const result = await sweep();
  expect(result).toMatchObject({ metric: 'desk/acc', cases: 12, reference: 'base', seeds: [0, 1] });
  expect(result.candidates.map(({ name, values }) => [name, values.length])).toEqual([
    ['base', 1],
    ['as written', 2],
  ]);
  expect(result.chosen.candidate).toBe('as written');
  expect(result.chosen.reason).toContain('nearest to their mean');
  const info = JSON.parse(readFileSync(join(folder, '.cupel/candidates/first.json'), 'utf8')) as object;
  expect(info).toMatchObject({ training: { seed: result.chosen.seed, choice: result.chosen.reason } });
  const before = weights(folder);
  notes.length = 0;
  expect(await sweep()).toEqual(result);
  expect(notes.filter((note) => note.includes('kept: it was trained before'))).toHaveLength(2);
  expect(weights(folder)).toBe(before);
});

test('an interrupted sweep keeps what is finished and goes on with the same result', async () => {
  const fields = { validation: { suite: './desk', metric: 'acc' }, sweep: { seeds: 2 } };
  const whole = recipeFolder(fields);
  const wanted = await runSweep(await recipeProject(whole.recipe), await loadRecipe(whole.recipe), { command });

  const broken = recipeFolder(fields);
  const interruption = new AbortController();
  let steps = 0;
  const error: unknown = await runSweep(
    await recipeProject(broken.recipe, interruption.signal),
    await loadRecipe(broken.recipe),
    {
      command,
      onEvent: ({ type }) => {
        if (type === 'step' && ++steps === 14) interruption.abort(130);
      },
    },
  ).catch((reason: unknown) => reason);
  expect(isCupelError(error) && [error.code, error.remedy]).toEqual([
    'CUPEL_RECIPE_INTERRUPTED',
    `Go on with: ${command} --resume`,
  ]);
  const notes: string[] = [];
  const result = await runSweep(await recipeProject(broken.recipe, undefined, notes), await loadRecipe(broken.recipe), {
    command,
    resume: true,
  });
  expect(notes.filter((note) => note.includes('kept: it was trained before'))).toHaveLength(1);
  expect({ ...result, path: '' }).toEqual({ ...wanted, path: '' });
});

test('a value more trains what is missing alone, wherever it stands in the list', async () => {
  const { recipe, configure } = recipeFolder({ maxSteps: 1, validation: { suite: './desk', metric: 'acc' } });
  const notes: string[] = [];
  const sweep = async (learningRate: readonly number[]) => {
    configure({ sweep: { seeds: 1, vary: { learningRate } } });
    await runSweep(await recipeProject(recipe, undefined, notes), await loadRecipe(recipe), { command });
  };
  await sweep([0.002, 0.004]);
  notes.length = 0;
  await sweep([0.003, 0.002, 0.004]);
  expect(notes.filter((note) => note.includes('kept: it was trained before'))).toHaveLength(3);
});

test('a row that asks what a test case asks is refused, of the data or the replay, by the suite of the recipe', async () => {
  const { recipe, configure, write } = recipeFolder({ maxSteps: 1, validation: { suite: './desk', metric: 'acc' } });
  const messages = [
    { role: 'user', content: 'What about  case 3?' },
    { role: 'assistant', content: '{}' },
  ];
  write('leak.jsonl', `${JSON.stringify({ messages })}\n`);
  const attempt = async (fields: Readonly<Record<string, unknown>>): Promise<string> => {
    configure(fields);
    return code(trainRecipe(await recipeProject(recipe), await loadRecipe(recipe), { command, fresh: true }));
  };
  expect(await attempt({ data: ['rows.jsonl', 'leak.jsonl'] })).toBe('CUPEL_DATA_HELD_OUT');
  expect(await attempt({ replay: { data: 'leak.jsonl', perStep: 1 } })).toBe('CUPEL_DATA_HELD_OUT');
  expect(await attempt({})).toBe('no error');
});

test('a training never overwrites the checkpoint that it starts from', async () => {
  const { recipe, configure, folder } = recipeFolder({ maxSteps: 1 });
  const attempt = async (fields: Readonly<Record<string, unknown>>): Promise<string> => {
    configure(fields);
    return code(trainRecipe(await recipeProject(recipe), await loadRecipe(recipe), { command }));
  };
  expect(await attempt({})).toBe('no error');
  const before = weights(folder);
  expect(await attempt({ base: 'first' })).toBe('CUPEL_ID_INVALID');
  expect(await attempt({ base: './.cupel/candidates/first' })).toBe('CUPEL_ID_INVALID');
  expect(weights(folder)).toBe(before);
});

test('a base with new tokens never takes the place of another checkpoint', async () => {
  const { recipe, configure, folder } = recipeFolder({ maxSteps: 1 });
  const attempt = async (fields: Readonly<Record<string, unknown>>): Promise<string> => {
    configure(fields);
    return code(trainRecipe(await recipeProject(recipe), await loadRecipe(recipe), { command }));
  };
  expect(await attempt({ output: 'first-base' })).toBe('no error');
  const before = weights(folder, 'first-base');
  const extended = { method: 'continued-pretraining', parameters: { vocabulary: { tokens: 4 } } };
  expect(await attempt(extended)).toBe('CUPEL_MERGE_TARGET');
  expect(weights(folder, 'first-base')).toBe(before);
  expect(await attempt({ ...extended, output: 'x'.repeat(62) })).toBe('CUPEL_ID_INVALID');
});

test('what is finished is trained again when another teacher, replay or validation is asked for', async () => {
  const { recipe, configure } = recipeFolder({ maxSteps: 1, replay: { data: 'rows.jsonl', perStep: 1 } });
  const notes: string[] = [];
  const attempt = async (fields: Readonly<Record<string, unknown>>): Promise<boolean> => {
    configure(fields);
    notes.length = 0;
    const project = await recipeProject(recipe, undefined, notes);
    await trainRecipe(project, await loadRecipe(recipe), { command, resume: true });
    return notes.some((note) => note.includes('nothing is left'));
  };
  expect(await attempt({})).toBe(false);
  expect(await attempt({})).toBe(true);
  expect(await attempt({ replay: { data: 'rows.jsonl', perStep: 2 } })).toBe(false);
  expect(await attempt({ validation: { suite: './desk', metric: 'acc' } })).toBe(false);
  expect(await attempt({ validation: { suite: './desk', metric: 'acc_norm' } })).toBe(false);
});

test('a sweep changes one field at a time, or makes all products, and refuses what it cannot vary', async () => {
  const { recipe, configure } = recipeFolder({ validation: { suite: './desk', metric: 'acc' } });
  const names = async (sweep: object): Promise<unknown> => {
    configure({ sweep });
    return planSweep(await recipeProject(recipe), await loadRecipe(recipe)).then(
      ({ candidates }) => candidates.map(({ name }) => name),
      (error: unknown) => (isCupelError(error) ? error.code : String(error)),
    );
  };
  const vary = { learningRate: [0.001, 0.01], batchSize: [4, 8] };
  // The value that the recipe has anyway is the recipe as written.
  expect(await names({ seeds: 1, vary })).toEqual(['as written', 'learningRate=0.01', 'batchSize=8']);
  expect(await names({ seeds: 1, vary, grid: true })).toEqual([
    'as written',
    'learningRate=0.001 batchSize=8',
    'learningRate=0.01 batchSize=4',
    'learningRate=0.01 batchSize=8',
  ]);
  for (const field of ['data', 'teacher', 'parameters.teacher', 'parameters.vocabulary.tokens', 'logs'])
    expect(await names({ vary: { [field]: ['a.jsonl', 'b.jsonl'] } })).toBe('CUPEL_RECIPE_SWEEP');
  // Thirty-two to the eighth: counted, not made.
  const many = Array.from({ length: 32 }, (_, index) => index);
  const wide = Object.fromEntries('abcdefgh'.split('').map((name) => [`parameters.${name}`, many]));
  expect(await names({ vary: wide, grid: true })).toBe('CUPEL_RECIPE_SWEEP');
  expect(await names({ seeds: 32, vary: { learningRate: [0.1, 0.2, 0.3] } })).toBe('CUPEL_RECIPE_SWEEP');
  configure({ sweep: { seeds: 2 }, validation: undefined });
  expect(await code(planSweep(await recipeProject(recipe), await loadRecipe(recipe)))).toBe('CUPEL_RECIPE_VALIDATION');
});

test('an adapter that was saved alone is measured beside its base', async () => {
  const { folder, recipe } = recipeFolder({ tuning: { kind: 'lora', rank: 4, save: 'adapter' } });
  const project = await recipeProject(recipe);
  await trainRecipe(project, await loadRecipe(recipe), { command });
  expect(existsSync(join(folder, '.cupel/candidates/first/adapter_config.json'))).toBe(true);
  const [metrics] = await evaluateCheckpoint(project, {
    checkpoint: 'first',
    suites: [join(folder, 'desk')],
    split: 'validation',
  });
  expect(metrics).toMatchObject({ suite: 'desk', cases: 12, errors: 0 });
});
