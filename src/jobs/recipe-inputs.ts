import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Trainer, TrainingRow, TrainJob } from '../contracts/index.ts';
import { isCupelError } from '../kit/index.ts';
import { besideRecipe, type TrainRecipe } from '../plugins/recipe.ts';
import { trainErrors } from '../train/index.ts';
import { jobErrors } from './errors.ts';
import { extendedBase } from './extend-vocabulary.ts';
import {
  checkNewId,
  checkpointIds,
  type CheckpointInfo,
  findCheckpoint,
  findDataset,
  isStoreId,
  type Project,
} from './project.ts';
import { refuseOwnOutput } from './train.ts';
import { openValidationSuite, type ValidationSuite } from './train-validation.ts';
import { readRows } from './training-data.ts';

/** What a recipe names, found and read once; a sweep shares it. */
export interface RecipeInputs {
  readonly trainer: Trainer;
  /** The trainer of the method; null where only another one knows it. */
  readonly method: Trainer | null;
  readonly base: CheckpointInfo | null;
  readonly teacher: CheckpointInfo | null;
  readonly data: readonly string[];
  readonly replayNames: readonly string[];
  readonly rows: readonly TrainingRow[];
  readonly replay: TrainJob['replay'];
  readonly chosen: ValidationSuite | null;
}

/**
 * Finds and reads what the recipe names. @throws with file:line of the recipe where a name is unknown
 * @param options.planOnly nothing is written: a base that is to get new tokens is planned with as it is
 */
export async function openInputs(
  project: Project,
  recipe: TrainRecipe,
  { planOnly = false }: { readonly planOnly?: boolean } = {},
): Promise<RecipeInputs> {
  checkNewId(recipe.output, project.config.checkpoints, recipe.placeOf('output'));
  const { trainer, method } = await loadTrainers(project, recipe);
  const found = recipe.base === null ? null : await locateCheckpoint(project, recipe, recipe.base, 'base');
  const named = recipe.teacher ?? trainer.teacher?.(recipe.written) ?? null;
  const teacher = named === null ? null : await locateCheckpoint(project, recipe, named, 'teacher');
  if (named === null && method?.teacher !== undefined) {
    throw trainErrors.CUPEL_TRAIN_NO_TEACHER({
      message: `method "${recipe.method}" learns from a teacher, and the recipe names none`,
      where: recipe.placeOf('method'),
    });
  }
  refuseOwnOutput(project.at('candidates', recipe.output), { base: found, teacher }, recipe.placeOf('output'));
  if (found === null && trainer.needs !== 'data') {
    throw jobErrors.CUPEL_ENGINE_CANNOT_LEARN({
      message: `method "${recipe.method}" needs a base checkpoint`,
      where: recipe.placeOf('method'),
      remedy: 'Name one with `base`.',
    });
  }
  const locate = (names: readonly string[], field: string): string[] =>
    names.map((name) => locateDataset(project, recipe, name, field));
  const say = (text: string): void => project.progress.note(text);
  const data = locate(recipe.data, 'data');
  const replayNames = locate(recipe.replay?.data ?? [], 'replay.data');
  const rows = await readRows(project, data, say);
  const asked = trainer.vocabulary?.(recipe.written) ?? null;
  const base =
    found === null || asked === null || planOnly
      ? found
      : await extendedBase(project, found, { id: recipe.output, options: asked, rows, data });
  if (asked !== null && planOnly) say('  new tokens are chosen when training starts; the plan is of the base as it is');
  return {
    trainer,
    method,
    base,
    teacher,
    data,
    replayNames,
    rows,
    replay:
      recipe.replay === null
        ? null
        : { rows: await readRows(project, replayNames, say), perStep: recipe.replay.perStep },
    chosen: await openValidationSuite(project, recipe),
  };
}

/** Id of what computes. */
export function trainerId(recipe: TrainRecipe): string {
  return recipe.trainer === 'native' ? recipe.method : recipe.trainer;
}

async function loadTrainers(project: Project, recipe: TrainRecipe): Promise<Pick<RecipeInputs, 'trainer' | 'method'>> {
  const load = (id: string, field: string): Promise<Trainer> =>
    project.registry.load('trainer', id).catch((error: unknown) => {
      throw placed(error, recipe.placeOf(field));
    });
  const known = recipe.trainer === 'native' || (await project.registry.ids('trainer')).includes(recipe.method);
  const method = known ? await load(recipe.method, 'method') : null;
  return {
    method,
    trainer: recipe.trainer === 'native' && method !== null ? method : await load(recipe.trainer, 'trainer'),
  };
}

async function locateCheckpoint(
  project: Project,
  recipe: TrainRecipe,
  name: string,
  field: string,
): Promise<CheckpointInfo> {
  if ((await checkpointIds(project)).includes(name)) return findCheckpoint(project, name);
  const beside = besideRecipe(recipe, name);
  if (!existsSync(beside) && existsSync(name)) {
    throw jobErrors.CUPEL_CHECKPOINT_UNKNOWN({ ...elsewhere(name, beside), where: recipe.placeOf(field) });
  }
  return findCheckpoint(project, existsSync(beside) ? beside : name).catch((error: unknown) => {
    throw placed(error, recipe.placeOf(field));
  });
}

function locateDataset(project: Project, recipe: TrainRecipe, name: string, field: string): string {
  const made = isStoreId(name) && existsSync(project.at('datasets', `${name}.jsonl`));
  if (Object.hasOwn(project.config.datasets, name) || made) return name;
  const beside = besideRecipe(recipe, name);
  if (existsSync(beside)) return beside;
  if (existsSync(name)) {
    throw jobErrors.CUPEL_DATASET_UNKNOWN({ ...elsewhere(name, beside), where: recipe.placeOf(field) });
  }
  try {
    findDataset(project, name);
    return name;
  } catch (error) {
    throw placed(error, recipe.placeOf(field));
  }
}

/** Paths start at the recipe: one that only the current folder has is another one. */
function elsewhere(name: string, beside: string): { readonly message: string; readonly remedy: string } {
  return {
    message: `there is no ${beside}`,
    remedy: `Paths start at the recipe. If ${resolve(name)} is meant, write it as seen from there.`,
  };
}

/** The error of a name that the recipe holds, at the line where it stands. */
function placed(error: unknown, where: string): unknown {
  if (!isCupelError(error)) return error;
  const { code, message, remedy } = error;
  const factory = Object.entries(jobErrors).find(([name]) => name === code)?.[1];
  if (typeof factory === 'function') return factory({ message, where, remedy, cause: error });
  return Object.assign(error, { where: error.where ?? where });
}
