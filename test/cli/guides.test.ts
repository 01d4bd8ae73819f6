import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseArguments } from '../../src/cli/arguments.ts';
import { commands } from '../../src/cli/commands.ts';
import { loadRecipe } from '../../src/plugins/recipe.ts';
import { resolveSettings } from '../../src/jobs/recipe-settings.ts';
import { openRegistry } from '../../src/plugins/registry.ts';
import { root } from '../lib/cli.ts';
import { recipeFolder } from '../lib/recipe.ts';

const folder = join(root, 'docs/guides');
const guides = readdirSync(folder).filter((name) => name.endsWith('.md'));

test.each(guides)('every command of the guide %s is one, with flags that it takes', (name) => {
  const text = readFileSync(join(folder, name), 'utf8');
  const blocks = [...text.matchAll(/^```(?:sh|console)?\n(.*?)^```$/gms)].map(([, block]) => block ?? '');
  for (const line of blocks.flatMap((block) => block.split('\n')).filter((one) => /^\$? ?cupel /.test(one))) {
    const [, called = '', ...rest] = line
      .replace(/^\$ /, '')
      .replace(/\s[#>|].*$/, '')
      .trim()
      .split(/\s+/);
    const command = commands.find((one) => one.name === called);
    expect(command, line).toBeDefined();
    parseArguments(rest, command?.flags ?? {});
  }
});

test('every recipe of the training guide is one, down to the parameters of its method', async () => {
  const { write } = recipeFolder();
  const text = readFileSync(join(folder, 'training.md'), 'utf8');
  const recipes = [...text.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, block]) => block ?? '');
  expect(recipes.length).toBeGreaterThan(5);
  const registry = await openRegistry();
  for (const [index, block] of recipes.entries()) {
    const recipe = await loadRecipe(write(`guide-${index}.yaml`, block));
    const trainer = await registry.load('trainer', recipe.method);
    const facts = { family: 'llama', parameters: 1e8 };
    expect(resolveSettings(recipe, { trainer, method: trainer }, facts).parameters).toHaveProperty('learningRate');
  }
});

test('the tables of the training guide are what the code does', async () => {
  const text = readFileSync(join(folder, 'training.md'), 'utf8');
  const row = (parameters: string): string[] =>
    (new RegExp(`^\\| ${parameters} \\|(.*)\\|$`, 'm').exec(text)?.[1] ?? '').split('|').map((cell) => cell.trim());
  const { recipe, configure } = recipeFolder({ epochs: undefined });
  const registry = await openRegistry();
  const trainer = await registry.load('trainer', 'sft');
  for (const [name, parameters] of [
    ['up to 10M', 10e6],
    ['up to 200M', 200e6],
    ['up to 1.3B', 1.3e9],
    ['larger', 7e9],
  ] as const) {
    const shares = [];
    for (const tuning of ['full', 'lora']) {
      configure({ tuning });
      const made = resolveSettings(
        await loadRecipe(recipe),
        { trainer, method: trainer },
        { family: 'llama', parameters },
      );
      shares.push(String(Number((Number(made.parameters['learningRate']) / 1e-3).toPrecision(3))));
    }
    expect(row(name.replaceAll('.', '\\.')), name).toEqual(shares);
  }
});
