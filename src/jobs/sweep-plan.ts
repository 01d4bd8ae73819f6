import { digestOf } from '../kit/index.ts';
import { type TrainRecipe, withWritten } from '../plugins/recipe.ts';
import { jobErrors } from './errors.ts';
import type { Project } from './project.ts';
import { openInputs, type RecipeInputs } from './recipe-inputs.ts';
import { type PlannedRecipe, planInputs } from './recipe-plan.ts';
import { deciding } from './result-key.ts';
import type { ValidationSuite } from './train-validation.ts';

/** A sweep before anything is trained. */
export interface PlannedSweep {
  readonly checkpoint: string;
  /** `suite/metric`. */
  readonly metric: string;
  readonly seeds: readonly number[];
  readonly candidates: readonly { readonly name: string; readonly plan: PlannedRecipe }[];
}

/** One recipe of a sweep, whatever its seed. */
export interface SweepCandidate {
  readonly name: string;
  readonly recipe: TrainRecipe;
  readonly plan: PlannedRecipe;
  /** Name of its folder: of its settings, so that it stays where it is when values come and go. */
  readonly folder: string;
}

interface PreparedSweep {
  readonly planned: PlannedSweep;
  readonly candidates: readonly SweepCandidate[];
  readonly inputs: RecipeInputs;
  readonly chosen: ValidationSuite;
}

const mostCandidates = 32;
const mostTrainings = 64;
const asWritten = 'as written';

/** Resolves every candidate of a sweep. Writes nothing. @throws CUPEL_RECIPE_SWEEP, CUPEL_RECIPE_VALIDATION */
export async function planSweep(project: Project, recipe: TrainRecipe): Promise<PlannedSweep> {
  return (await prepareSweep(project, recipe, { planOnly: true })).planned;
}

/** As `planSweep`, with everything that training needs. */
export async function prepareSweep(
  project: Project,
  recipe: TrainRecipe,
  options: { readonly planOnly?: boolean } = {},
): Promise<PreparedSweep> {
  const { sweep } = recipe;
  if (sweep === null || recipe.validation === null) {
    throw jobErrors.CUPEL_RECIPE_VALIDATION({
      message: 'a sweep compares candidates on a validation suite, and the recipe names none',
      where: recipe.placeOf('sweep'),
      remedy: 'Add `validation: { suite: …, metric: … }`.',
    });
  }
  const variants = variantsOf(recipe);
  const first = recipe.seed ?? project.config.seed;
  const seeds = Array.from({ length: sweep.seeds }, (_, index) => first + index);
  if (variants.length > mostCandidates || variants.length * seeds.length > mostTrainings) {
    throw jobErrors.CUPEL_RECIPE_SWEEP({
      message: `${variants.length} candidates × ${seeds.length} seeds; at most ${mostCandidates} candidates and ${mostTrainings} trainings are made`,
      where: recipe.placeOf('sweep'),
    });
  }
  const inputs = await openInputs(project, recipe, options);
  const chosen = inputs.chosen as ValidationSuite;
  const candidates: SweepCandidate[] = [];
  const seen = new Set<string>();
  for (const variant of variants) {
    const plan = await planInputs(project, variant.recipe, inputs);
    const folder = `candidate-${digestOf(deciding(plan))
      .replace(/^sha256:/, '')
      .slice(0, 12)}`;
    // A value that the recipe has anyway is the recipe as written.
    if (!seen.has(folder)) candidates.push({ ...variant, plan, folder });
    seen.add(folder);
  }
  return {
    candidates,
    inputs,
    chosen,
    planned: {
      checkpoint: recipe.output,
      metric: chosen.path,
      seeds,
      candidates: candidates.map(({ name, plan }) => ({ name, plan })),
    },
  };
}

/** The recipe as written, then one field changed at a time, or all products. @throws CUPEL_RECIPE_SWEEP */
function variantsOf(recipe: TrainRecipe): Pick<SweepCandidate, 'name' | 'recipe'>[] {
  const { vary = [], grid = false } = recipe.sweep ?? {};
  for (const { field } of vary) checkVaried(recipe, field);
  // Counted before they are made: products grow fast.
  const count = vary.reduce((all, { values }) => (grid ? all * values.length : all + values.length), grid ? 1 : 0);
  if (count > mostTrainings * mostCandidates) {
    throw jobErrors.CUPEL_RECIPE_SWEEP({
      message: `${count} combinations; at most ${mostCandidates} candidates are made`,
      where: recipe.placeOf('sweep'),
    });
  }
  const sets: Readonly<Record<string, unknown>>[] = grid
    ? vary.reduce<Readonly<Record<string, unknown>>[]>(
        (all, { field, values }) => all.flatMap((set) => values.map((value) => ({ ...set, [field]: value }))),
        [{}],
      )
    : vary.flatMap(({ field, values }) => values.map((value) => ({ [field]: value })));
  return [{}, ...sets.filter((set) => Object.keys(set).length > 0)].map((set) => ({
    name:
      Object.entries(set)
        .map(([field, value]) => `${field}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
        .join(' ') || asWritten,
    recipe: withWritten(recipe, set),
  }));
}

/** What is found and opened once for the whole sweep, or is no setting of a training. */
const shared = new Set(
  'base teacher method trainer data output role description seed effort validation replay sweep checkpoints logs vocabulary'.split(
    ' ',
  ),
);

function checkVaried(recipe: TrainRecipe, field: string): void {
  const name = field.replace(/^parameters\./, '').split('.')[0] ?? '';
  const spelled = /^[A-Za-z][A-Za-z0-9]*(\.[A-Za-z][A-Za-z0-9]*){0,2}$/.test(field);
  if (spelled && name !== 'parameters' && !shared.has(name)) return;
  throw jobErrors.CUPEL_RECIPE_SWEEP({
    message: `${JSON.stringify(field)} cannot be varied`,
    where: recipe.placeOf(`sweep.vary.${field}`),
    remedy: 'Vary fields of the loop (`learningRate`, `tuning.rank`) or of the method (`parameters.beta`).',
  });
}
