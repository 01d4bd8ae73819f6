import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { TrainingRecord } from '../contracts/index.ts';
import { estimate } from '../gate/index.ts';
import { readJson, writeFileAtomic } from '../kit/index.ts';
import type { TrainRecipe } from '../plugins/recipe.ts';
import { jobErrors } from './errors.ts';
import { checkpointDigest, type CheckpointInfo, type Project } from './project.ts';
import { openInputs, type RecipeInputs } from './recipe-inputs.ts';
import { withPlannedJob } from './recipe-plan.ts';
import { resultKey } from './result-key.ts';
import { type RecipeOptions, resultOf, type Trained, type TrainedRecipe, trainInto } from './train-into.ts';
import { runValidation } from './train-validation.ts';
import { clearFinished, type Destination, isUnfinished, type StartOptions } from './train-work.ts';

/**
 * Trains what a recipe says into `<store>/candidates/<output>` and keeps what is known of it beside the folder.
 * @throws CUPEL_RECIPE_MEMORY, CUPEL_RECIPE_UNFINISHED, CUPEL_RECIPE_INTERRUPTED, and what trainer and rooms throw
 */
export async function trainRecipe(
  project: Project,
  recipe: TrainRecipe,
  options: RecipeOptions,
): Promise<TrainedRecipe> {
  const inputs = await openInputs(project, recipe);
  const destination = { folder: project.at('candidates', recipe.output), work: project.at('training', recipe.output) };
  const before = options.resume === true ? await finishedBefore(project, recipe, inputs, destination) : null;
  const whole = before ?? (await trainInto(project, recipe, inputs, destination, options));
  if (before === null) {
    await writeRecord(project, whole.info);
    await clearFinished(destination.work);
  } else project.progress.note(`training "${recipe.output}" is finished; nothing is left to train`);
  const measured = await measuredAtEnd(project, recipe, inputs, whole, destination.work).catch((error: unknown) => {
    throw unmeasured(project, recipe, destination, options, error);
  });
  if (measured.info !== whole.info) await writeRecord(project, measured.info);
  return measured.trained;
}

async function writeRecord(project: Project, info: CheckpointInfo): Promise<void> {
  await writeFileAtomic(project.at('candidates', `${info.id}.json`), `${JSON.stringify(info, null, 2)}\n`);
}

/** The result of this very recipe, where it lies there whole and nothing was interrupted since; else null. */
async function finishedBefore(
  project: Project,
  recipe: TrainRecipe,
  inputs: RecipeInputs,
  destination: Destination,
): Promise<Trained | null> {
  const file = project.at('candidates', `${recipe.output}.json`);
  if (!existsSync(file) || (await isUnfinished(destination.work))) return null;
  const info = await readJson<CheckpointInfo>(file);
  const { training } = info;
  if (training === null || !existsSync(destination.folder)) return null;
  return withPlannedJob(project, recipe, inputs, null, async ({ planned }) => {
    if (training.key !== (await resultKey(recipe, inputs, planned))) return null;
    const trained = {
      ...resultOf(recipe, destination, planned, training),
      digest: await checkpointDigest(info),
      metrics: await recordedMetrics(destination.folder),
      warnings: [],
    };
    return { info, trained };
  });
}

/** The last metrics, from the record that lies in the folder. */
async function recordedMetrics(folder: string): Promise<TrainedRecipe['metrics']> {
  const file = join(folder, 'cupel_run.json');
  return existsSync(file) ? (await readJson<TrainingRecord>(file)).metrics : {};
}

/** What is computed elsewhere can not be measured on the way: its result is measured once. */
async function measuredAtEnd(
  project: Project,
  recipe: TrainRecipe,
  { trainer, chosen }: RecipeInputs,
  whole: Trained,
  work: string,
): Promise<Trained> {
  const { info, trained } = whole;
  const { training } = info;
  if (chosen === null || trainer.needs === 'learner' || training === null) return whole;
  if (training.validation?.metric === chosen.path) return whole;
  const folder = join(work, 'validation');
  const run = await runValidation(project, chosen, info, folder, {
    limit: recipe.validation?.limit ?? null,
    progress: project.progress,
  });
  await rm(folder, { recursive: true, force: true });
  const value = estimate(chosen.metric, run.rows).value;
  const points = [{ step: trained.steps, value, best: true }];
  project.progress.note(`  ${chosen.path} ${value?.toFixed(4) ?? 'not measured'}, of the finished checkpoint`);
  return {
    info: { ...info, training: { ...training, validation: { metric: chosen.path, points } } },
    trained: { ...trained, validation: points },
  };
}

/** The weights are there whatever stopped the measurement: only that is left to do. */
function unmeasured(
  project: Project,
  recipe: TrainRecipe,
  { folder }: Destination,
  { command }: StartOptions,
  cause: unknown,
): unknown {
  if (!project.signal.aborted) {
    project.progress.note(`the checkpoint is whole: ${folder}; to measure it again: ${command} --resume`);
    return cause;
  }
  return jobErrors.CUPEL_RECIPE_INTERRUPTED({
    message: `training "${recipe.output}" is finished; its measurement was stopped`,
    where: folder,
    remedy: `Measure it with: ${command} --resume`,
    cause,
  });
}
