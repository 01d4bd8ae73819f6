import { existsSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import type { TrainEvent, TrainPlan } from '../contracts/index.ts';
import { writeFileAtomic } from '../kit/index.ts';
import { corruptLabels, digestRows, formatTrainingRows, readTrainingRows } from '../data/index.ts';
import type { TrainStep } from '../plugins/config.ts';
import { jobErrors } from './errors.ts';
import { withTrainJob } from './train-job.ts';
import { snapshotInfo } from './train-validation.ts';
import { readRows, reviewTrainingData } from './training-data.ts';
import { extendedBase } from './extend-vocabulary.ts';
import {
  checkNewId,
  checkpointDigest,
  type CheckpointInfo,
  findCheckpoint,
  findDataset,
  type Project,
} from './project.ts';

/** What a finished training leaves in the pipeline's journal. */
export interface TrainedCheckpoint {
  readonly checkpoint: string;
  readonly digest: string;
  readonly steps: number;
  readonly trainedTokens: number;
  readonly metrics: Readonly<Record<string, number>>;
}

/**
 * Trains a candidate into `<store>/candidates/<id>`, and keeps what is known of it beside the folder.
 * With `planOnly` nothing is written: memory, steps and tokens are returned.
 */
export async function trainCheckpoint(
  project: Project,
  step: TrainStep,
  options: { readonly planOnly?: boolean } = {},
): Promise<TrainedCheckpoint | TrainPlan> {
  checkNewId(step.checkpoint, project.config.checkpoints, 'train.checkpoint');
  const trainer = await project.registry.load('trainer', step.trainer);
  const say = (text: string): void => project.progress.note(text);
  const data = await readRows(project, step.data, say);
  const replay =
    step.replay === null
      ? null
      : { rows: await readRows(project, step.replay.data, say), perStep: step.replay.perStep };
  const named = step.base === null ? null : await findCheckpoint(project, step.base);
  const asked = trainer.vocabulary?.(step.parameters) ?? null;
  const base =
    named === null || asked === null || options.planOnly === true
      ? named
      : await extendedBase(project, named, { id: step.checkpoint, options: asked, rows: data, data: step.data });
  const teacher = trainer.teacher?.(step.parameters) ?? null;
  const folder = project.at('candidates', step.checkpoint);
  const taught = teacher === null ? null : await findCheckpoint(project, teacher);
  refuseOwnOutput(folder, { base: named, teacher: taught }, 'train.checkpoint');
  // Beside the finished one, which stays until the new one is whole.
  const output = `${folder}.new`;
  const parent = base === null ? 'none' : await checkpointDigest(base);
  const task = {
    id: step.checkpoint,
    trainer: step.trainer,
    base,
    teacher: taught,
    data,
    replay,
    parameters: step.parameters,
    seed: project.config.seed,
    output,
    work: null,
    resume: false,
    validation: null,
  };
  return withTrainJob(project, trainer, task, async (job) => {
    const plan = await trainer.plan(job);
    if (options.planOnly === true) return plan;
    // What an interrupted attempt left.
    for (const left of [output, `${output}.partial`]) await rm(left, { recursive: true, force: true });
    const progress = project.progress.begin(`train ${step.checkpoint}`, plan.steps, 'steps');
    await reviewTrainingData(project, { rows: data, replay }, (event) => show(project, progress, event));
    const result = await trainer.train(job, (event) => show(project, progress, event), project.signal);
    progress.end(
      `${result.steps} steps, ${result.trainedTokens} trained tokens, loss ${result.losses.at(-1)?.toFixed(4) ?? '-'}`,
    );
    await replaceFolder(output, folder);
    const info: CheckpointInfo = {
      ...snapshotInfo(step.checkpoint, folder, base),
      role: step.role,
      description: step.description,
      training: {
        trainer: `${step.trainer}@${trainer.version}`,
        steps: result.steps,
        trainedTokens: result.trainedTokens,
        losses: result.losses,
        base: base?.id ?? null,
        parent,
        data: step.data,
        replay: step.replay?.data ?? [],
        dataDigest: digestRows(data),
      },
    };
    await writeFileAtomic(project.at('candidates', `${step.checkpoint}.json`), `${JSON.stringify(info, null, 2)}\n`);
    return {
      checkpoint: step.checkpoint,
      digest: await checkpointDigest(info),
      steps: result.steps,
      trainedTokens: result.trainedTokens,
      metrics: result.metrics,
    };
  });
}

/** @throws CUPEL_ID_INVALID where the result would be written over what it is trained from */
export function refuseOwnOutput(
  folder: string,
  sources: Readonly<Record<'base' | 'teacher', CheckpointInfo | null>>,
  where: string,
): void {
  for (const [what, info] of Object.entries(sources)) {
    if (info === null || ![info.path, info.adapter ?? info.path].some((path) => resolve(path) === resolve(folder)))
      continue;
    throw jobErrors.CUPEL_ID_INVALID({
      message: `"${basename(folder)}" is the ${what} of this training, and would be overwritten by its result`,
      where,
      remedy: 'Choose another name for what is made.',
    });
  }
}

/** Puts a finished folder in the place of an older one; a crash leaves one of the two under its name or beside it. */
export async function replaceFolder(from: string, to: string): Promise<void> {
  await rm(`${to}.old`, { recursive: true, force: true });
  if (existsSync(to)) await rename(to, `${to}.old`);
  await rename(from, to);
  await rm(`${to}.old`, { recursive: true, force: true });
}

/** Writes a dataset in which a share of the answers has wrong labels: a planted fault for the gate to find. */
export async function corruptDataset(
  project: Project,
  step: {
    readonly dataset: string;
    readonly from: string;
    readonly share: number;
    readonly set: Readonly<Record<string, unknown>>;
  },
): Promise<{ readonly dataset: string; readonly rows: number; readonly digest: string }> {
  checkNewId(step.dataset, project.config.datasets, 'corrupt.dataset');
  const rows = corruptLabels(await readTrainingRows(findDataset(project, step.from)), {
    share: step.share,
    set: step.set,
    seed: project.config.seed,
  });
  await writeFileAtomic(project.at('datasets', `${step.dataset}.jsonl`), formatTrainingRows(rows));
  return { dataset: step.dataset, rows: rows.length, digest: digestRows(rows) };
}

function show(project: Project, task: ReturnType<Project['progress']['begin']>, event: TrainEvent): void {
  if (event.type === 'warning') project.progress.note(`  ${event.code}: ${event.message}`);
  if (event.type !== 'step') return;
  task.advance();
  task.detail(`loss ${event.loss.toFixed(4)}`);
}
