import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { MetricDefinition, Progress, Run, Suite, TrainValidation } from '../contracts/index.ts';
import { estimate } from '../gate/index.ts';
import { isCupelError, nearest } from '../kit/index.ts';
import { suiteFolder } from '../plugins/config.ts';
import { besideRecipe, type TrainRecipe, trainingSplit } from '../plugins/recipe.ts';
import { loadSuite } from '../plugins/suites.ts';
import { openRunStore } from '../store/index.ts';
import { jobErrors } from './errors.ts';
import { evaluateSuite } from './evaluate.ts';
import { type CheckpointInfo, openModel, type Project } from './project.ts';
import { withDerived } from './runs.ts';

/** The suite and metric that a recipe measures by, with the cases of the validation split and of no other. */
export interface ValidationSuite {
  readonly suite: Suite;
  readonly metric: MetricDefinition;
  /** `suite/metric`. */
  readonly path: string;
  readonly folder: string;
}

/** @throws CUPEL_RECIPE_VALIDATION with file:line, and what loading the suite throws */
export async function openValidationSuite(project: Project, recipe: TrainRecipe): Promise<ValidationSuite | null> {
  const { validation } = recipe;
  if (validation === null) return null;
  const beside = besideRecipe(recipe, validation.suite);
  const isPath = validation.suite.startsWith('.') || existsSync(join(beside, 'suite.yaml'));
  const folder = isPath ? beside : suiteFolder(validation.suite, project.config);
  const suite = await loadSuite(folder, { splits: [trainingSplit] }).catch((error: unknown) => {
    if (!isCupelError(error) || !['CUPEL_SUITE_SPLIT_UNKNOWN', 'CUPEL_FILE_MISSING'].includes(error.code)) throw error;
    throw jobErrors.CUPEL_RECIPE_VALIDATION({
      message: error.message,
      where: recipe.placeOf('validation.suite'),
      cause: error,
    });
  });
  const metric = suite.metrics.find(({ name }) => name === validation.metric);
  if (metric === undefined || suite.task === 'pairwise') {
    const near = nearest(
      validation.metric,
      suite.metrics.map(({ name }) => name),
    );
    throw jobErrors.CUPEL_RECIPE_VALIDATION({
      message:
        suite.task === 'pairwise'
          ? `suite "${suite.id}" compares two checkpoints; training measures one`
          : `suite "${suite.id}" has no metric "${validation.metric}"${near === null ? '' : `; did you mean "${near}"?`}`,
      where: recipe.placeOf(suite.task === 'pairwise' ? 'validation.suite' : 'validation.metric'),
      remedy: `Its metrics: ${suite.metrics.map(({ name }) => name).join(', ')}.`,
    });
  }
  return { suite, metric, path: `${suite.id}/${metric.name}`, folder };
}

/**
 * Runs the validation split on a checkpoint, with the project's engine and settings. Rows go to a store of their own
 * below `work`, never to the project's: what training looked at is no evidence.
 */
export async function runValidation(
  project: Project,
  { suite }: Pick<ValidationSuite, 'suite'>,
  info: CheckpointInfo,
  work: string,
  options: { readonly limit?: number | null; readonly signal?: AbortSignal; readonly progress?: Progress } = {},
): Promise<Run> {
  const apart: Project = {
    ...project,
    runs: openRunStore(work),
    progress: options.progress ?? silent,
    signal: options.signal ?? project.signal,
    at: (...parts) => join(work, ...parts),
  };
  const { model, engine } = await openModel(apart, info);
  try {
    const run = await evaluateSuite(
      apart,
      { info, model, engine },
      { ...suite, references: [] },
      trainingSplit,
      options.limit ?? undefined,
    );
    return withDerived(run, suite);
  } finally {
    await model.close();
  }
}

/** What the loop measures its snapshots with. */
export function trainValidation(
  project: Project,
  recipe: TrainRecipe,
  chosen: ValidationSuite,
  base: CheckpointInfo | null,
  work: string,
  steps: number,
): TrainValidation {
  const { everySteps, patience, limit } = recipe.validation ?? { everySteps: null, patience: null, limit: null };
  return {
    metric: chosen.path,
    higherIsBetter: chosen.metric.direction === 'higher',
    everySteps: everySteps ?? Math.max(1, Math.ceil(steps / 5)),
    patience,
    measure: async (folder, signal) => {
      const info = snapshotInfo(recipe.output, folder, base);
      const run = await runValidation(project, chosen, info, join(work, 'validation'), {
        limit,
        ...(signal === undefined ? {} : { signal }),
      });
      return estimate(chosen.metric, run.rows).value;
    },
  };
}

/** A folder that training wrote, as a checkpoint: adapters alone stand beside the base they were trained over. */
export function snapshotInfo(id: string, folder: string, base: CheckpointInfo | null): CheckpointInfo {
  const adapter = base !== null && existsSync(join(folder, 'adapter_config.json'));
  return {
    id,
    path: adapter ? base.path : folder,
    engine: adapter ? base.engine : null,
    ...(adapter ? { adapter: folder } : {}),
    role: 'snapshot',
    description: '',
    training: null,
  };
}

const silent: Progress = {
  note: () => {},
  begin: () => ({ advance: () => {}, detail: () => {}, end: () => {} }),
};
