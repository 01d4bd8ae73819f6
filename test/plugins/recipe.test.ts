import { expect, test } from 'vitest';
import { compileSchema, isCupelError } from '../../src/kit/index.ts';
import { loadRecipe, recipeJsonSchema, withWritten } from '../../src/plugins/recipe.ts';
import { openRegistry } from '../../src/plugins/registry.ts';
import { recipeFolder } from '../lib/recipe.ts';

async function failure(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    if (isCupelError(error)) return `${error.code}: ${error.message} at ${error.where?.replace(/^.*\//, '')}`;
    throw error;
  }
  return 'no error';
}

const head = 'base: ./base\nmethod: sft\ndata: rows.jsonl\noutput: first\n';

test('a recipe of four lines is one; what it leaves open stays open', async () => {
  const { write } = recipeFolder();
  const recipe = await loadRecipe(write('small.yaml', head));
  expect(recipe).toMatchObject({
    base: './base',
    method: 'sft',
    trainer: 'native',
    data: ['rows.jsonl'],
    output: 'first',
    effort: 'balanced',
    validation: null,
    sweep: null,
    seed: null,
    written: {},
  });
});

test('errors name file and line', async () => {
  const { write } = recipeFolder();
  const wrong = (more: string): Promise<string> => failure(loadRecipe(write('wrong.yaml', `${head}${more}`)));
  expect(await wrong('# note\nlerningRate: 0.1\n')).toBe(
    'CUPEL_FIELD_UNKNOWN: unknown field "lerningRate"; did you mean "learningRate"? at wrong.yaml:6',
  );
  expect(await wrong('batchSize: many\n')).toBe(
    'CUPEL_FIELD_INVALID: batchSize must be integer (is "many") at wrong.yaml:5',
  );
  expect(await wrong('replay:\n  data: rows.jsonl\n  perStep: 0\n')).toBe(
    'CUPEL_FIELD_INVALID: replay.perStep must be >= 1 (is 0) at wrong.yaml:7',
  );
  expect(await wrong('validation:\n  suite: ./desk\n  metrik: accuracy\n')).toMatch(
    /^CUPEL_FIELD_UNKNOWN: unknown field "metrik"; did you mean "metric"\? at wrong.yaml:7$/,
  );
  expect(await wrong('effort: [quick\n')).toMatch(/^CUPEL_JSON_INVALID: not YAML: .* at wrong.yaml:\d+$/);
  expect(await failure(loadRecipe(write('wrong.yaml', 'method: sft\n')))).toMatch(
    /must have required property 'data' .* at wrong.yaml:1$/,
  );
  expect(await failure(loadRecipe('/nowhere/recipe.yaml'))).toContain('CUPEL_FILE_MISSING');
});

test('the test split is refused by name', async () => {
  const { write } = recipeFolder();
  const text = `${head}validation:\n  suite: ./desk\n  metric: accuracy\n  split: test\n`;
  expect(await failure(loadRecipe(write('peeks.yaml', text)))).toBe(
    'CUPEL_RECIPE_SPLIT: validation.split is "test": training may look at the split "validation" alone at peeks.yaml:8',
  );
});

test('flags win over the file, reach into objects, and are checked as the file is', async () => {
  const { recipe } = recipeFolder({ tuning: 'lora', parameters: { beta: 0.2 } });
  const loaded = await loadRecipe(recipe, {
    output: 'other',
    seed: 9,
    seeds: 2,
    set: { learningRate: 0.01, 'tuning.rank': 4, 'parameters.beta': 0.3, labelSmoothing: 0.1 },
  });
  expect(loaded).toMatchObject({ output: 'other', seed: 9, sweep: { seeds: 2, vary: [], grid: false } });
  expect(loaded.written).toMatchObject({
    learningRate: 0.01,
    tuning: { kind: 'lora', rank: 4 },
    beta: 0.3,
    labelSmoothing: 0.1,
  });
  expect(await failure(loadRecipe(recipe, { set: { batchSize: 'many' } }))).toMatch(/batchSize must be integer/);
});

test('a field that is written twice is refused; a flag changes it where it stands', async () => {
  const { write } = recipeFolder();
  const twice = (more: string): Promise<string> => failure(loadRecipe(write('twice.yaml', `${head}${more}`)));
  expect(await twice('epochs: 2\nparameters:\n  epochs: 3\n')).toBe(
    'CUPEL_FIELD_INVALID: parameters.epochs says again what the recipe says outside of parameters at twice.yaml:7',
  );
  expect(await twice('teacher: a\nparameters: { teacher: b }\n')).toMatch(/^CUPEL_FIELD_INVALID: parameters.teacher/);
  expect(await twice('trainer: trl\nparameters: { method: dpo }\n')).toMatch(/^CUPEL_FIELD_INVALID: parameters.method/);
  const inner = write('inner.yaml', `${head}parameters: { epochs: 3 }\n`);
  expect((await loadRecipe(inner, { set: { epochs: 5 } })).written).toEqual({ epochs: 5 });
  const outer = write('outer.yaml', `${head}epochs: 3\n`);
  expect((await loadRecipe(outer, { set: { 'parameters.epochs': 5 } })).written).toEqual({ epochs: 5 });
  // What the method alone knows, with fields of its own.
  expect((await loadRecipe(outer, { set: { 'vocabulary.tokens': 8 } })).written).toEqual({
    epochs: 3,
    vocabulary: { tokens: 8 },
  });
});

test('a hostile file is an error at its place, whatever its shape', async () => {
  const { write } = recipeFolder();
  const wrong = (text: string): Promise<string> => failure(loadRecipe(write('hostile.yaml', text)));
  expect(await wrong(`method: ${'['.repeat(20_000)}`)).toMatch(/^CUPEL_JSON_INVALID/);
  expect(await wrong(`method: ${'['.repeat(20_000)}${']'.repeat(20_000)}`)).toMatch(/^CUPEL_(JSON|FIELD)_INVALID/);
  expect(await wrong(`${head}parameters: ${'{a: '.repeat(20_000)}1${'}'.repeat(20_000)}`)).toMatch(/^CUPEL_/);
  const bomb = `a: &a [x, x]\n${[...'bcdefghijk'].map((name, index) => `${name}: &${name} [${'*abcdefghijk'.slice(0, 1)}${'abcdefghijk'[index]}, *${'abcdefghijk'[index]}]\n`).join('')}`;
  expect(await wrong(bomb)).toMatch(/^CUPEL_/);
  expect(await wrong(`${head}__proto__: { effort: quick }\n`)).toMatch(/^CUPEL_FIELD_UNKNOWN/);
  expect(await wrong(`${head}parameters: { __proto__: { polluted: 1 } }\n`)).toBe('no error');
  expect(Object.hasOwn(Object.prototype, 'polluted')).toBe(false);
  expect(await wrong('')).toMatch(/^CUPEL_FIELD_INVALID/);
  expect(await wrong('a: 1\n---\nb: 2\n')).toMatch(/^CUPEL_/);
  for (const output of ['../x', 'a/b', '.hidden', 'A', '', 'x'.repeat(65)])
    expect(await wrong(`${head.replace('first', JSON.stringify(output))}`)).toMatch(/^CUPEL_FIELD_INVALID/);
});

test('a varied field is written into the recipe, and its errors stand at the sweep', async () => {
  const { write } = recipeFolder();
  const recipe = await loadRecipe(
    write('sweep.yaml', `${head}sweep:\n  vary:\n    learningRate: [0.1]\n    parameters.beta: [2]\n`),
  );
  const varied = withWritten(recipe, { 'parameters.beta': 2 });
  expect(varied.written).toEqual({ beta: 2 });
  expect(withWritten(recipe, { learningRate: 0.1 }).placeOf('learningRate')).toMatch(/sweep.yaml:7$/);
});

test('the published schema compiles, describes every field, and knows every setting that all learners take', async () => {
  const schema = recipeJsonSchema() as { properties: Record<string, { description?: string }> };
  compileSchema(schema, 'recipe.schema.json');
  const registry = await openRegistry();
  const options = await Promise.all(
    (await registry.ids('trainer')).map(async (id) => {
      const { needs, options: own } = await registry.load('trainer', id);
      return needs === 'learner' ? Object.keys(own['properties'] as object) : null;
    }),
  );
  const [first = [], ...others] = options.filter((one) => one !== null);
  const common = first.filter((name) => others.every((names) => names.includes(name)));
  expect(common.length).toBeGreaterThan(15);
  for (const name of common.filter((one) => one !== 'replayWeight')) expect(schema.properties).toHaveProperty(name);
});
