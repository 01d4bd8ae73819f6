import { digestOf } from '../kit/index.ts';
import { digestRows } from '../data/index.ts';
import type { TrainRecipe } from '../plugins/recipe.ts';
import { checkpointDigest } from './project.ts';
import type { RecipeInputs } from './recipe-inputs.ts';
import type { PlannedRecipe } from './recipe-plan.ts';

/**
 * Settings by name, wherever they come from. What this machine chose for want of memory is left out: it never changes a
 * result.
 */
export function deciding({ settings }: Pick<PlannedRecipe, 'settings'>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    settings
      .filter(({ name, from }) => name !== 'recompute' || from === 'recipe')
      .map(({ name, value }) => [name, value]),
  );
}

/** Digest of everything that decides what a training gives: two trainings of one key have the same weights. */
export async function resultKey(
  recipe: TrainRecipe,
  inputs: RecipeInputs,
  planned: Pick<PlannedRecipe, 'settings' | 'trainer' | 'seed'>,
): Promise<string> {
  const { trainer, base, teacher, rows, replay, chosen } = inputs;
  return digestOf({
    settings: deciding(planned),
    trainer: planned.trainer,
    seed: planned.seed,
    base: base === null ? null : await checkpointDigest(base),
    teacher: teacher === null ? null : await checkpointDigest(teacher),
    data: digestRows(rows),
    replay: replay === null ? null : { rows: digestRows(replay.rows), perStep: replay.perStep },
    // What is computed elsewhere is measured when it is done, and not chosen by it.
    validation:
      trainer.needs === 'learner' && chosen !== null
        ? { metric: chosen.path, suite: chosen.suite.digest, ...recipe.validation }
        : null,
  });
}
