import { existsSync, renameSync, writeFileSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { readJson } from '../kit/index.ts';
import type { TrainRecipe } from '../plugins/recipe.ts';
import { refuseWorkInUse } from '../train/index.ts';
import { jobErrors } from './errors.ts';
import type { Project } from './project.ts';

/** Where a training writes. */
export interface Destination {
  /** Finished folder. */
  readonly folder: string;
  /** For what an interrupted run needs, and for its log. */
  readonly work: string;
}

/** How a training starts. */
export interface StartOptions {
  /** The command that was given, for messages that say how to go on. */
  readonly command: string;
  readonly resume?: boolean;
  readonly fresh?: boolean;
}

const unfinishedFile = 'unfinished.json';

/** Notes that a run has a checkpoint to go on from. In one piece, whenever it is killed. */
export function markUnfinished(work: string, step: number): void {
  const file = join(work, unfinishedFile);
  writeFileSync(`${file}.partial`, `${JSON.stringify({ step })}\n`);
  renameSync(`${file}.partial`, file);
}

/** What only an interrupted run needs is removed; its log stays. */
export async function clearFinished(work: string): Promise<void> {
  const needed = [unfinishedFile, 'settings.json', 'checkpoints', 'snapshots', 'references', 'validation'];
  for (const name of needed) await rm(join(work, name), { recursive: true, force: true });
  // A trainer that computes elsewhere keeps its own in a folder of its own.
  const folders = await readdir(work, { withFileTypes: true }).catch(() => []);
  for (const folder of folders.filter((entry) => entry.isDirectory())) {
    await rm(join(work, folder.name, 'checkpoints'), { recursive: true, force: true });
  }
}

/** Step of the last checkpoint of a run that has not ended; null: there is none. */
async function unfinishedStep(work: string): Promise<number | null> {
  const file = join(work, unfinishedFile);
  if (existsSync(file)) return (await readJson<{ readonly step: number }>(file)).step;
  const names = await readdir(join(work, 'checkpoints')).catch(() => [] as string[]);
  const steps = names.flatMap((name) => /^step-(\d+)$/.exec(name)?.[1] ?? []).map(Number);
  return steps.length === 0 ? null : Math.max(...steps);
}

export async function isUnfinished(work: string): Promise<boolean> {
  return (await unfinishedStep(work)) !== null;
}

/** @throws CUPEL_RECIPE_UNFINISHED where it was not said what becomes of an interrupted run, CUPEL_TRAIN_WORK_IN_USE */
export async function refuseUnfinished(
  { work }: Destination,
  recipe: TrainRecipe,
  options: StartOptions,
): Promise<void> {
  await refuseWorkInUse(work);
  if (options.resume === true || options.fresh === true) return;
  const step = await unfinishedStep(work);
  if (step === null) return;
  throw jobErrors.CUPEL_RECIPE_UNFINISHED({
    message: `an interrupted training of "${recipe.output}" has a checkpoint at step ${step}`,
    where: work,
    remedy: `Go on with \`${options.command} --resume\`, or start over with \`${options.command} --fresh\`.`,
  });
}

/** Removes what an interrupted attempt left of the result, and of its work unless it goes on. */
export async function clearWork({ folder, work }: Destination, options: StartOptions): Promise<void> {
  if (options.resume !== true) await rm(work, { recursive: true, force: true });
  for (const left of [`${folder}.new`, `${folder}.new.partial`]) await rm(left, { recursive: true, force: true });
}

/** Says how to go on: after Ctrl-C as an error of its own, after anything else as a note beside it. */
export async function stopped(
  project: Project,
  recipe: TrainRecipe,
  { work }: Destination,
  options: StartOptions,
  cause: unknown,
): Promise<unknown> {
  const kept = (await unfinishedStep(work)) !== null;
  const again = `${options.command} --resume`;
  if (project.signal.aborted) {
    return jobErrors.CUPEL_RECIPE_INTERRUPTED({
      message: `training "${recipe.output}" was stopped`,
      where: work,
      remedy: kept ? `Go on with: ${again}` : `No checkpoint was written yet. Start again with: ${options.command}`,
      cause,
    });
  }
  if (kept) project.progress.note(`the last checkpoint is kept; to go on: ${again}`);
  return cause;
}
