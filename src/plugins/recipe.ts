import { dirname, join, resolve } from 'node:path';
import { checkAgainst, compileSchema, kitErrors, readText } from '../kit/index.ts';
import { pluginErrors } from './errors.ts';
import recipeSchema from './recipe.schema.json' with { type: 'json' };
import { parsePlacedYaml } from './yaml-places.ts';

/** The one dial of a recipe. */
export type Effort = 'quick' | 'balanced' | 'thorough';

/** A recipe as checked. What the fields mean stands in recipe.schema.json. */
export interface TrainRecipe {
  /** Absolute path. */
  readonly file: string;
  readonly base: string | null;
  readonly teacher: string | null;
  readonly method: string;
  /** `native`: the trainer that the method names. Else the trainer that is handed the method. */
  readonly trainer: string;
  readonly data: readonly string[];
  readonly replay: { readonly data: readonly string[]; readonly perStep: number } | null;
  readonly output: string;
  readonly role: string;
  readonly description: string;
  readonly seed: number | null;
  readonly effort: Effort;
  readonly validation: RecipeValidation | null;
  /** Fields of the loop and parameters of the method as they are written; nothing filled in. */
  readonly written: Readonly<Record<string, unknown>>;
  readonly sweep: RecipeSweep | null;
  readonly logs: RecipeLogs;
  /** `file:line` of a parameter; of the field of `parameters` where it stands there. */
  readonly placeOf: (parameter: string) => string;
}

export interface RecipeValidation {
  readonly suite: string;
  readonly metric: string;
  readonly everySteps: number | null;
  readonly patience: number | null;
  readonly limit: number | null;
}

export interface RecipeLogs {
  readonly tensorboard?: boolean;
  readonly mlflow?: { readonly uri: string; readonly experiment?: string };
  readonly wandb?: { readonly project?: string };
}

export interface RecipeSweep {
  readonly seeds: number;
  /** Dotted name of a field to its values, in the order of the file. */
  readonly vary: readonly { readonly field: string; readonly values: readonly unknown[] }[];
  readonly grid: boolean;
}

/** What the command line says beside the file; it wins. */
export interface RecipeOverrides {
  readonly output?: string;
  readonly trainer?: string;
  readonly seed?: number;
  readonly seeds?: number;
  /** Dotted name of a field to its value. */
  readonly set?: Readonly<Record<string, unknown>>;
}

/** The only split that training may look at; `test` belongs to the gate. */
export const trainingSplit = 'validation';

const validate = compileSchema(recipeSchema, 'recipe.schema.json');

const namedElsewhere = new Set(
  'base teacher method trainer data output role description seed effort validation replay parameters sweep logs $schema'.split(
    ' ',
  ),
);

interface RawRecipe extends Readonly<Record<string, unknown>> {
  readonly base?: string;
  readonly teacher?: string;
  readonly method: string;
  readonly trainer?: string;
  readonly data: string | readonly string[];
  readonly output: string;
  readonly role?: string;
  readonly description?: string;
  readonly seed?: number;
  readonly effort?: Effort;
  readonly validation?: {
    readonly suite: string;
    readonly metric: string;
    readonly everySteps?: number;
    readonly patience?: number | null;
    readonly limit?: number;
    readonly split?: string;
  };
  readonly replay?: { readonly data: string | readonly string[]; readonly perStep: number; readonly weight?: number };
  readonly parameters?: Readonly<Record<string, unknown>>;
  readonly sweep?: {
    readonly seeds?: number;
    readonly vary?: Readonly<Record<string, readonly unknown[]>>;
    readonly grid?: boolean;
  };
  readonly logs?: RecipeLogs;
}

/** The published JSON Schema of recipes. */
export function recipeJsonSchema(): unknown {
  return recipeSchema;
}

/**
 * Loads and checks a recipe.
 * @throws CUPEL_FILE_MISSING, CUPEL_JSON_INVALID, CUPEL_FIELD_UNKNOWN, CUPEL_FIELD_INVALID, CUPEL_RECIPE_SPLIT, each
 *   with file:line
 */
export async function loadRecipe(path: string, overrides: RecipeOverrides = {}): Promise<TrainRecipe> {
  const file = resolve(path);
  const { value, placeOf } = parsePlacedYaml(await readText(file), file);
  checkAgainst<RawRecipe>(validate, value, file, placeOf);
  const raw = checkAgainst<RawRecipe>(
    validate,
    overridden(value as RawRecipe, overrides),
    `${file} with the flags given`,
    placeOf,
  );
  const { validation, sweep } = raw;
  if (validation?.split !== undefined && validation.split !== trainingSplit) {
    throw pluginErrors.CUPEL_RECIPE_SPLIT({
      message: `validation.split is "${validation.split}": training may look at the split "${trainingSplit}" alone`,
      where: placeOf(['validation', 'split']),
    });
  }
  const loop = Object.fromEntries(Object.entries(raw).filter(([name]) => !namedElsewhere.has(name)));
  const own = raw.parameters ?? {};
  const twice = Object.keys(own).find((name) => writtenOutside(raw, name));
  if (twice !== undefined) {
    throw kitErrors.CUPEL_FIELD_INVALID({
      message: `parameters.${twice} says again what the recipe says outside of parameters`,
      where: placeOf(['parameters', twice]),
      remedy: 'Write it in one of the two places.',
    });
  }
  return {
    file,
    base: raw.base ?? null,
    teacher: raw.teacher ?? null,
    method: raw.method,
    trainer: raw.trainer ?? 'native',
    data: list(raw.data),
    replay: raw.replay === undefined ? null : { data: list(raw.replay.data), perStep: raw.replay.perStep },
    output: raw.output,
    role: raw.role ?? 'candidate',
    description: raw.description ?? '',
    seed: raw.seed ?? null,
    effort: raw.effort ?? 'balanced',
    validation:
      validation === undefined
        ? null
        : {
            suite: validation.suite,
            metric: validation.metric,
            everySteps: validation.everySteps ?? null,
            patience: validation.patience ?? null,
            limit: validation.limit ?? null,
          },
    written: {
      ...loop,
      ...(raw.replay?.weight === undefined ? {} : { replayWeight: raw.replay.weight }),
      ...own,
    },
    sweep:
      sweep === undefined
        ? null
        : {
            seeds: sweep.seeds ?? 3,
            vary: Object.entries(sweep.vary ?? {}).map(([field, values]) => ({ field, values })),
            grid: sweep.grid ?? false,
          },
    logs: raw.logs ?? {},
    placeOf: (parameter) =>
      parameter === 'replayWeight'
        ? placeOf(['replay', 'weight'])
        : Object.hasOwn(own, parameter)
          ? placeOf(['parameters', parameter])
          : placeOf(parameter.split('.')),
  };
}

/** The path that a name of the recipe may mean: relative to the recipe's folder. */
export function besideRecipe(recipe: Pick<TrainRecipe, 'file'>, name: string): string {
  return resolve(join(dirname(recipe.file), '.'), name);
}

/** A recipe with one more field written, as a sweep does. */
export function withWritten(recipe: TrainRecipe, fields: Readonly<Record<string, unknown>>): TrainRecipe {
  let written: Readonly<Record<string, unknown>> = recipe.written;
  for (const [field, value] of Object.entries(fields))
    written = put(written, field.replace(/^parameters\./, '').split('.'), value);
  const varied = new Set(Object.keys(fields).map((field) => field.replace(/^parameters\./, '').split('.')[0]));
  return {
    ...recipe,
    written,
    placeOf: (parameter) =>
      varied.has(parameter.split('.')[0]) ? recipe.placeOf(`sweep.vary.${parameter}`) : recipe.placeOf(parameter),
  };
}

function overridden(raw: RawRecipe, overrides: RecipeOverrides): unknown {
  const { output, trainer, seed, seeds, set = {} } = overrides;
  let changed: Readonly<Record<string, unknown>> = {
    ...raw,
    ...(output === undefined ? {} : { output }),
    ...(trainer === undefined ? {} : { trainer }),
    ...(seed === undefined ? {} : { seed }),
    ...(seeds === undefined ? {} : { sweep: { ...raw.sweep, seeds } }),
  };
  for (const [field, value] of Object.entries(set)) changed = put(changed, pathOf(raw, field), value);
  return changed;
}

/** Where a field that a flag sets stands in the recipe, or would: outside of `parameters` what every method takes. */
function pathOf(raw: RawRecipe, field: string): readonly string[] {
  const path = field.split('.');
  const own = path[0] === 'parameters' && path.length > 1;
  const inner = own ? path.slice(1) : path;
  const [name = ''] = inner;
  const common = Object.hasOwn(recipeSchema.properties, name) && !(own && namedElsewhere.has(name));
  if (path.length === 1 && path[0] === 'parameters') return path;
  const moved = Object.hasOwn(raw.parameters ?? {}, name) && !Object.hasOwn(raw, name);
  return common && !moved ? inner : ['parameters', ...inner];
}

/** Whether a field of `parameters` stands in the recipe itself too. */
function writtenOutside(raw: RawRecipe, name: string): boolean {
  if (name === 'replayWeight') return raw.replay?.weight !== undefined;
  if (name === 'teacher') return raw.teacher !== undefined;
  if (name === 'method') return (raw.trainer ?? 'native') !== 'native';
  return Object.hasOwn(raw, name) && !namedElsewhere.has(name);
}

function put(
  record: Readonly<Record<string, unknown>>,
  path: readonly string[],
  value: unknown,
): Readonly<Record<string, unknown>> {
  const [name = '', ...rest] = path;
  if (rest.length === 0) return { ...record, [name]: value };
  const inner = record[name];
  const object =
    typeof inner === 'string' && name === 'tuning'
      ? { kind: inner }
      : typeof inner === 'object' && inner !== null
        ? (inner as Readonly<Record<string, unknown>>)
        : {};
  return { ...record, [name]: put(object, rest, value) };
}

function list(value: string | readonly string[]): readonly string[] {
  return typeof value === 'string' ? [value] : value;
}
