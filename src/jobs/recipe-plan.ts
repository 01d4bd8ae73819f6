import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { TrainJob, TrainLogs, TrainPlan } from '../contracts/index.ts';
import { kitErrors, readJson } from '../kit/index.ts';
import { besideRecipe, type Effort, type TrainRecipe } from '../plugins/recipe.ts';
import { type BaseFacts, baseFacts } from './base-facts.ts';
import type { Project } from './project.ts';
import { openInputs, type RecipeInputs, trainerId } from './recipe-inputs.ts';
import { type ResolvedSettings, resolveSettings, withSteps, withSetting } from './recipe-settings.ts';
import { withTrainJob } from './train-job.ts';
import { trainValidation } from './train-validation.ts';
import type { Destination } from './train-work.ts';

/** A recipe with everything that is known before training. */
export interface PlannedRecipe {
  readonly checkpoint: string;
  readonly trainer: string;
  readonly base: ({ readonly id: string } & BaseFacts) | null;
  readonly seed: number;
  readonly effort: Effort;
  readonly settings: ResolvedSettings['settings'];
  readonly rows: number;
  readonly replayRows: number;
  readonly plan: TrainPlan;
  readonly validation: {
    readonly metric: string;
    /** Null: once, of the finished checkpoint, where the training is computed elsewhere. */
    readonly everySteps: number | null;
    readonly patience: number | null;
    /** Only the first so many cases; null: all. */
    readonly limit: number | null;
  } | null;
  /** Bytes that this process may still take; null where the training is computed elsewhere. */
  readonly availableBytes: number | null;
}

/** Resolves and plans a recipe. Writes nothing. */
export async function planRecipe(project: Project, recipe: TrainRecipe): Promise<PlannedRecipe> {
  return planInputs(project, recipe, await openInputs(project, recipe, { planOnly: true }));
}

/** As `planRecipe`, of inputs that are read already. */
export function planInputs(project: Project, recipe: TrainRecipe, inputs: RecipeInputs): Promise<PlannedRecipe> {
  return withPlannedJob(project, recipe, inputs, null, async ({ planned }) => planned);
}

interface PlannedJob {
  readonly job: TrainJob;
  readonly planned: PlannedRecipe;
  readonly settings: ResolvedSettings['settings'];
}

/** Opens what the recipe needs, plans it, and hands both over. @param destination null: nothing will be trained */
export async function withPlannedJob<T>(
  project: Project,
  recipe: TrainRecipe,
  inputs: RecipeInputs,
  destination: Destination | null,
  use: (planned: PlannedJob) => Promise<T>,
): Promise<T> {
  const { trainer, base, teacher, rows, replay, chosen } = inputs;
  const facts = base === null ? { family: null, parameters: null } : await baseFacts(base.path);
  const kept = destination === null ? null : await keptSettings(destination.work);
  const resolved = resolveSettings(recipe, inputs, facts);
  const folder = destination?.folder ?? project.at('candidates', recipe.output);
  const task = {
    id: recipe.output,
    trainer: trainerId(recipe),
    base,
    teacher,
    data: rows,
    replay,
    parameters: resolved.parameters,
    seed: recipe.seed ?? project.config.seed,
    // Beside the finished one, which stays until the new one is whole.
    output: `${folder}.new`,
    work: destination?.work ?? null,
    resume: false,
    validation: null,
    logs: logsOf(project, recipe),
  };
  return withTrainJob(project, trainer, task, async (job) => {
    const availableBytes = trainer.needs === 'model' ? null : availableMemory();
    let plan = await trainer.plan(job);
    let settled = withSteps(resolved, trainer, plan);
    const recompute = resolved.settings.find(({ name }) => name === 'recompute');
    const recomputed = kept?.find(({ name, from }) => name === 'recompute' && from === becauseOfMemory) !== undefined;
    if (
      recompute?.from === 'method' &&
      recompute.value === false &&
      (recomputed || plan.memoryBytes > (availableBytes ?? Infinity))
    ) {
      settled = withSetting(settled, { name: 'recompute', value: true, from: becauseOfMemory });
      plan = await trainer.plan({ ...job, parameters: settled.parameters });
    }
    const validation =
      chosen === null || destination === null || trainer.needs !== 'learner'
        ? null
        : trainValidation(project, recipe, chosen, base, destination.work, plan.steps);
    const onTheWay = trainer.needs === 'learner';
    const measured =
      chosen === null
        ? null
        : {
            metric: chosen.path,
            everySteps: onTheWay ? (recipe.validation?.everySteps ?? Math.max(1, Math.ceil(plan.steps / 5))) : null,
            patience: onTheWay ? (recipe.validation?.patience ?? null) : null,
            limit: recipe.validation?.limit ?? null,
          };
    return use({
      job: { ...job, parameters: settled.parameters, validation },
      settings: settled.settings,
      planned: {
        checkpoint: recipe.output,
        trainer: `${trainerId(recipe)}@${trainer.version}`,
        base: base === null ? null : { id: base.id, ...facts },
        seed: task.seed,
        effort: recipe.effort,
        settings: settled.settings,
        rows: rows.length,
        replayRows: replay?.rows.length ?? 0,
        plan,
        validation: measured,
        availableBytes,
      },
    });
  });
}

/** What the recipe leaves open is called as the project is; a folder is relative to the recipe. */
function logsOf(project: Project, recipe: TrainRecipe): TrainLogs {
  const { tensorboard, mlflow, wandb } = recipe.logs;
  const name = project.config.project;
  return {
    ...(tensorboard === undefined ? {} : { tensorboard }),
    ...(mlflow === undefined
      ? {}
      : {
          mlflow: {
            uri: trackingPlace(recipe, mlflow.uri),
            experiment: mlflow.experiment ?? name,
          },
        }),
    ...(wandb === undefined ? {} : { wandb: { project: wandb.project ?? name } }),
  };
}

/** An address of the web as it is; else a folder. @throws CUPEL_FIELD_INVALID for other addresses (`sqlite:`) */
function trackingPlace(recipe: TrainRecipe, uri: string): string {
  if (/^https?:\/\//.test(uri)) return uri;
  const file = /^file:(?:\/\/)?(.+)$/.exec(uri)?.[1];
  if (file === undefined && /^[A-Za-z][\w+.-]+:/.test(uri)) {
    throw kitErrors.CUPEL_FIELD_INVALID({
      message: `logs.mlflow.uri is ${JSON.stringify(uri)}; http://, https:// or a folder was expected`,
      where: recipe.placeOf('logs.mlflow.uri'),
    });
  }
  return besideRecipe(recipe, file ?? uri);
}

const becauseOfMemory = 'memory of this machine';

/** What an interrupted run chose for itself, so that it goes on as the same. */
async function keptSettings(work: string): Promise<ResolvedSettings['settings'] | null> {
  const file = join(work, 'settings.json');
  if (!existsSync(file)) return null;
  const found = await readJson<unknown>(file);
  return Array.isArray(found) ? (found as ResolvedSettings['settings']) : null;
}

/** Of the machine or of the limit that this process runs under, whichever is less. */
function availableMemory(): number {
  const limit = process.constrainedMemory();
  const free = process.availableMemory();
  const { rss } = process.memoryUsage();
  return limit > 0 && limit < 2 ** 50 ? Math.min(free, Math.max(0, limit - rss)) : free;
}
