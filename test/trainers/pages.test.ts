import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readTrainingRows } from '../../src/data/index.ts';
import { packageRoot } from '../../src/kit/index.ts';
import { loadRecipe } from '../../src/plugins/recipe.ts';
import { openRegistry } from '../../src/plugins/registry.ts';
import { recipeProperties } from '../../trainers/lib/recipe.ts';
import { planned } from './planned.ts';

const pages = join(packageRoot(), 'docs/objectives');
const registry = await openRegistry();
const trainers = (
  await Promise.all(
    (await registry.ids('trainer')).map(async (id) => [id, await registry.load('trainer', id)] as const),
  )
).filter(([, { needs }]) => needs === 'learner');

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cupel-pages-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const page = (name: string): string => {
  const file = join(pages, `${name}.md`);
  return existsSync(file) ? readFileSync(file, 'utf8') : '';
};
const blocks = (text: string, language: string): string[] =>
  [...text.matchAll(new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\`$`, 'gm'))].map(([, block = '']) => block);

/** First two cells of the rows of all tables, without backticks. */
const rowsOf = (text: string): ReadonlyMap<string, string> =>
  new Map(
    [...text.matchAll(/^\| `(\w+)` \| `?([^`|]*?)`? \|/gm)].map(([, name = '', value = '']) => [name, value] as const),
  );
const shown = (value: unknown): string => (typeof value === 'string' ? value : (JSON.stringify(value) ?? ''));

it('there are objectives to hold to their pages', () => expect(trainers.length).toBeGreaterThan(8));

describe('the page of what every method can be told', () => {
  it('names each field of the recipe with its default, and every method', () => {
    const text = page('README');
    const rows = rowsOf(text);
    for (const [name, property] of Object.entries(recipeProperties))
      expect([name, rows.get(name)]).toEqual([name, shown('default' in property ? property.default : undefined)]);
    for (const [id] of trainers) expect(text).toContain(`(${id}.md)`);
  });
});

describe.each(trainers)('the page of %s', (id, trainer) => {
  it('exists, and names each parameter of its own with its default, and no other', () => {
    const text = page(id);
    const properties = trainer.options['properties'] as Readonly<Record<string, { readonly default?: unknown }>>;
    const own = Object.entries(properties).filter(([name]) => name === 'learningRate' || !(name in recipeProperties));
    const table = text.split(/^## /m).find((section) => section.startsWith('Parameters')) ?? '';
    expect([...rowsOf(table)].sort()).toEqual(
      own.map(([name, { default: value }]) => [name, shown(value)] as [string, string]).sort(),
    );
  });

  it('says what it computes, when to choose it, what TRL calls it, and its traps', () => {
    const headings = [...page(id).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => heading);
    expect(headings[0]).toMatch(new RegExp(`^${id}: `));
    for (const heading of ['When', 'Data', 'Parameters', 'Recipe', 'In TRL 1.16', 'Traps'])
      expect(headings).toContain(heading);
  });

  it('shows rows that can be read, and recipes that the trainer takes', async () => {
    const text = page(id);
    for (const [index, block] of blocks(text, 'json').entries()) {
      const file = join(folder, `${id}-${index}.jsonl`);
      await writeFile(file, block);
      expect((await readTrainingRows(file)).length).toBeGreaterThan(0);
    }
    const recipes = blocks(text, 'yaml');
    expect(recipes.length).toBeGreaterThan(0);
    for (const [index, block] of recipes.entries()) {
      const file = join(folder, `${id}-${index}.yaml`);
      await writeFile(file, block);
      const recipe = await loadRecipe(file);
      expect(recipe.method).toBe(id);
      expect((await planned(id, recipe.written)).objective.name).toBeTruthy();
    }
  });
});
