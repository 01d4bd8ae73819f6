import { expect, test } from 'vitest';
import type { Trainer } from '../../src/contracts/index.ts';
import { resolveSettings } from '../../src/jobs/recipe-settings.ts';
import { isCupelError } from '../../src/kit/index.ts';
import { loadRecipe } from '../../src/plugins/recipe.ts';
import { openRegistry } from '../../src/plugins/registry.ts';
import { recipeFolder } from '../lib/recipe.ts';

const open = { epochs: undefined, batchSize: undefined, dtype: undefined };

async function resolved(
  fields: Readonly<Record<string, unknown>>,
  facts: { family: string | null; parameters: number | null },
  trainer = 'native',
) {
  const { recipe } = recipeFolder({ ...open, ...fields });
  const loaded = await loadRecipe(recipe, trainer === 'native' ? {} : { trainer });
  const registry = await openRegistry();
  const method = await registry.load('trainer', loaded.method);
  const computes: Trainer = trainer === 'native' ? method : await registry.load('trainer', trainer);
  return resolveSettings(loaded, { trainer: computes, method }, facts);
}

test('the dial sets epochs, tuning, rank and learning rate by the size of the base', async () => {
  const table = [];
  for (const parameters of [1e6, 135e6, 500e6, 7e9])
    for (const effort of ['quick', 'balanced', 'thorough']) {
      const { parameters: made } = await resolved({ effort }, { family: 'llama', parameters });
      const { kind, rank } = made['tuning'] as { kind: string; rank?: number };
      table.push(
        `${parameters} ${effort}: ${kind} ${rank ?? '-'} ${String(made['epochs'])} ${String(made['learningRate'])}`,
      );
    }
  expect(table).toEqual([
    '1000000 quick: full - 1 0.0015',
    '1000000 balanced: full - 3 0.001',
    '1000000 thorough: full - 6 0.0007',
    '135000000 quick: lora 8 1 0.0015',
    '135000000 balanced: full - 3 0.0003',
    '135000000 thorough: full - 6 0.00021',
    '500000000 quick: lora 8 1 0.00075',
    '500000000 balanced: lora 16 3 0.0005',
    '500000000 thorough: lora 64 6 0.00035',
    '7000000000 quick: lora 8 1 0.0003',
    '7000000000 balanced: lora 16 3 0.0002',
    '7000000000 thorough: lora 64 6 0.00014',
  ]);
});

test('a preference method keeps its own scale, and Mistral and Qwen take half the rate of a Llama', async () => {
  const rate = async (family: string, tuning: string): Promise<unknown> =>
    (await resolved({ method: 'dpo', tuning }, { family, parameters: 7e9 })).parameters['learningRate'];
  expect(await rate('mistral', 'full')).toBe(5e-7);
  expect(await rate('mistral', 'lora')).toBe(5e-6);
  expect(await rate('llama', 'lora')).toBe(1e-5);
  expect(await rate('qwen2', 'full')).toBe(5e-7);
});

test('what is written wins, and is told apart from what was chosen', async () => {
  const { settings, parameters } = await resolved(
    { epochs: 7, tuning: { kind: 'lora', rank: 4 }, schedule: 'constant' },
    { family: 'llama', parameters: 135e6 },
  );
  expect(parameters).toMatchObject({
    epochs: 7,
    schedule: 'constant',
    tuning: { kind: 'lora', rank: 4, alpha: 8 },
    learningRate: 1e-3,
  });
  const from = Object.fromEntries(settings.map((setting) => [setting.name, setting.from]));
  expect(from).toMatchObject({
    epochs: 'recipe',
    tuning: 'recipe',
    schedule: 'recipe',
    learningRate: 'effort balanced, 135.0M parameters, llama',
    warmupSteps: 'recipe default',
    batchSize: 'method',
  });
});

test('another trainer is handed the method and the rates of the method', async () => {
  const { parameters } = await resolved({ method: 'dpo' }, { family: 'llama', parameters: 1e6 }, 'trl');
  expect(parameters).toMatchObject({ method: 'dpo', learningRate: 5e-5, epochs: 3 });
});

test('a trainer without the loop is told nothing of it', async () => {
  const { parameters } = await resolved(
    { method: 'keyword-rules', base: undefined },
    { family: null, parameters: null },
  );
  expect(parameters).toEqual({});
});

test('what the method does not take is an error at its line', async () => {
  const { write } = recipeFolder();
  const file = write(
    'dpo.yaml',
    'base: ./base\nmethod: dpo\ndata: pairs.jsonl\noutput: dpo\nparameters:\n  beta: -1\n',
  );
  const registry = await openRegistry();
  const trainer = await registry.load('trainer', 'dpo');
  const attempt = async (): Promise<unknown> =>
    resolveSettings(await loadRecipe(file), { trainer, method: trainer }, { family: null, parameters: null });
  await expect(attempt()).rejects.toSatisfy(
    (error) => isCupelError(error) && error.code === 'CUPEL_FIELD_INVALID' && error.where === `${file}:6`,
  );
});

test('a rank alone says adapters, and a base of few bits quantized ones', async () => {
  const tuning = async (written: object): Promise<unknown> =>
    (await resolved({ tuning: written }, { family: 'llama', parameters: 1e6 })).parameters['tuning'];
  expect(await tuning({ rank: 4 })).toEqual({ kind: 'lora', rank: 4, alpha: 8 });
  expect(await tuning({ base: 'q4_0' })).toEqual({ kind: 'qlora', rank: 16, alpha: 32, base: 'q4_0' });
});
