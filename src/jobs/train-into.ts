import { join } from 'node:path';
import type { Schedule, TrainEvent, TrainResult } from '../contracts/index.ts';
import { digestRows } from '../data/index.ts';
import { writeFileAtomic } from '../kit/index.ts';
import type { TrainRecipe } from '../plugins/recipe.ts';
import { learningRateAt } from '../train/index.ts';
import { jobErrors } from './errors.ts';
import { checkpointDigest, type CheckpointInfo, type Project } from './project.ts';
import type { RecipeInputs } from './recipe-inputs.ts';
import { type PlannedRecipe, withPlannedJob } from './recipe-plan.ts';
import type { ResolvedSettings } from './recipe-settings.ts';
import { resultKey } from './result-key.ts';
import { replaceFolder, type TrainedCheckpoint } from './train.ts';
import { snapshotInfo } from './train-validation.ts';
import { watchTraining, type Watched } from './train-watch.ts';
import {
  clearWork,
  type Destination,
  markUnfinished,
  refuseUnfinished,
  type StartOptions,
  stopped,
} from './train-work.ts';
import { reviewTrainingData } from './training-data.ts';

export interface RecipeOptions extends StartOptions {
  readonly ignoreMemory?: boolean;
  onPlan?(plan: PlannedRecipe): void;
  onEvent?(event: TrainEvent): void;
}

export interface TrainedRecipe extends TrainedCheckpoint {
  readonly path: string;
  readonly plan: PlannedRecipe;
  readonly bestStep: number | null;
  readonly validation: Watched['points'];
  readonly warnings: Watched['warnings'];
}

/** The record of a checkpoint, and what is told of its training. */
export interface Trained {
  readonly info: CheckpointInfo;
  readonly trained: TrainedRecipe;
}

/**
 * Trains one recipe into one folder. The record beside it is the caller's, who then clears what an interrupted run
 * would need: until both are done, nothing is lost.
 */
export async function trainInto(
  project: Project,
  recipe: TrainRecipe,
  inputs: RecipeInputs,
  destination: Destination,
  options: RecipeOptions,
): Promise<Trained> {
  const { trainer, base } = inputs;
  return withPlannedJob(project, recipe, inputs, destination, async ({ job, planned, settings }) => {
    await refuseUnfinished(destination, recipe, options);
    options.onPlan?.(planned);
    checkMemory(planned, options.ignoreMemory === true);
    await clearWork(destination, options);
    const parent = base === null ? 'none' : await checkpointDigest(base);
    await writeFileAtomic(join(destination.work, 'settings.json'), `${JSON.stringify(settings, null, 2)}\n`);
    const curve = join(destination.work, 'validation.jsonl');
    const onEvent = (event: TrainEvent): void => {
      if (event.type === 'checkpoint') markUnfinished(destination.work, event.step);
      options.onEvent?.(event);
    };
    const watch = watchTraining(project, `train ${recipe.output}`, planned.plan.steps, curve, onEvent);
    let result: TrainResult;
    try {
      await reviewTrainingData(project, inputs, (event) => watch.sink(event));
      result = await trainer.train(
        { ...job, resume: options.resume === true },
        (event) => watch.sink(event),
        project.signal,
      );
    } catch (error) {
      watch.end('stopped');
      throw await stopped(project, recipe, destination, options, error);
    }
    const watched = watch.watched();
    watch.end(
      `${result.steps} steps, ${result.trainedTokens} trained tokens, loss ${result.losses.at(-1)?.toFixed(4) ?? '-'}${result.bestStep === undefined ? '' : `, best at step ${result.bestStep}`}`,
    );
    const values = new Set(watched.points.map(({ value }) => value));
    if (watched.points.length > 1 && values.size === 1 && result.bestStep !== undefined) {
      project.progress.note(
        `  ${planned.validation?.metric ?? ''} was the same at every step and chose nothing: the first measured, step ${result.bestStep}, is kept`,
      );
    }
    await replaceFolder(job.output, destination.folder);
    const training = {
      trainer: planned.trainer,
      steps: result.steps,
      trainedTokens: result.trainedTokens,
      losses: result.losses,
      base: base?.id ?? null,
      parent,
      data: inputs.data,
      replay: inputs.replayNames,
      dataDigest: digestRows(inputs.rows),
      seed: job.seed,
      settings: planned.settings,
      key: await resultKey(recipe, inputs, planned),
      ...learningRates(settings, planned.plan.steps, result.losses.length),
      ...(inputs.chosen === null || trainer.needs !== 'learner'
        ? {}
        : { validation: { metric: inputs.chosen.path, points: watched.points } }),
      ...(result.bestStep === undefined ? {} : { bestStep: result.bestStep }),
    };
    const { role, description } = recipe;
    const info: CheckpointInfo = {
      ...snapshotInfo(recipe.output, destination.folder, base),
      role,
      description,
      training,
    };
    const trained = {
      ...resultOf(recipe, destination, planned, training),
      digest: await checkpointDigest(info),
      metrics: result.metrics,
      warnings: watched.warnings,
    };
    return { info, trained };
  });
}

/** Learning rate of each step that was taken; empty where the trainer has no such settings. */
function learningRates(
  settings: ResolvedSettings['settings'],
  steps: number,
  taken: number,
): { readonly learningRates?: readonly number[] } {
  const valueOf = (name: string): unknown => settings.find((setting) => setting.name === name)?.value;
  const [learningRate, schedule, warmupSteps] = ['learningRate', 'schedule', 'warmupSteps'].map(valueOf);
  if (typeof learningRate !== 'number' || schedule === undefined || typeof warmupSteps !== 'number') return {};
  const rule = { learningRate, schedule: schedule as Schedule, warmupSteps };
  return { learningRates: Array.from({ length: taken }, (_, step) => learningRateAt(rule, step, steps)) };
}

/** What a record and a plan say of a finished training. */
export function resultOf(
  recipe: TrainRecipe,
  { folder }: Destination,
  plan: PlannedRecipe,
  training: NonNullable<CheckpointInfo['training']>,
): Omit<TrainedRecipe, 'digest' | 'metrics' | 'warnings'> {
  return {
    checkpoint: recipe.output,
    path: folder,
    steps: training.steps,
    trainedTokens: training.trainedTokens,
    plan,
    bestStep: training.bestStep ?? null,
    validation: training.validation?.points ?? [],
  };
}

function checkMemory({ plan, availableBytes, checkpoint }: PlannedRecipe, ignore: boolean): void {
  if (ignore || availableBytes === null || plan.memoryBytes <= availableBytes) return;
  throw jobErrors.CUPEL_RECIPE_MEMORY({
    message: `training "${checkpoint}" would take about ${gigabytes(plan.memoryBytes)}, and ${gigabytes(availableBytes)} are free`,
  });
}

function gigabytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}
