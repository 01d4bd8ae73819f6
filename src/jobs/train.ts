import { existsSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import type { Learner, Model, TrainEvent, TrainingRow, TrainPlan } from '../contracts/index.ts';
import { writeFileAtomic } from '../kit/index.ts';
import { corruptLabels, digestRows, formatTrainingRows, readTrainingRows } from '../data/index.ts';
import type { TrainStep } from '../plugins/config.ts';
import { trainServices } from '../train/index.ts';
import { jobErrors } from './errors.ts';
import {
  checkNewId,
  checkpointDigest,
  type CheckpointInfo,
  findCheckpoint,
  findDataset,
  openModel,
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
  const data = await readRows(project, step.data);
  const replay =
    step.replay === null ? null : { rows: await readRows(project, step.replay.data), perStep: step.replay.perStep };
  const base = step.base === null ? null : await findCheckpoint(project, step.base);
  const folder = project.at('candidates', step.checkpoint);
  // Beside the finished one, which stays until the new one is whole.
  const output = `${folder}.new`;
  const parent = base === null ? 'none' : await checkpointDigest(base);
  const opened = trainer.needs === 'learner' ? await openLearner(project, base, step) : { model: null, learner: null };
  const job = {
    id: step.checkpoint,
    base: base === null ? null : { id: base.id, path: base.path },
    ...opened,
    services: trainer.needs === 'learner' ? trainServices : null,
    data,
    replay,
    parameters: step.parameters,
    seed: project.config.seed,
    output,
  };
  try {
    const plan = await trainer.plan(job);
    if (options.planOnly === true) return plan;
    // What an interrupted attempt left.
    for (const left of [output, `${output}.partial`]) await rm(left, { recursive: true, force: true });
    const task = project.progress.begin(`train ${step.checkpoint}`, plan.steps, 'steps');
    const result = await trainer.train(job, (event) => show(project, task, event), project.signal);
    task.end(
      `${result.steps} steps, ${result.trainedTokens} trained tokens, loss ${result.losses.at(-1)?.toFixed(4) ?? '-'}`,
    );
    await replaceFolder(output, folder);
    const info: CheckpointInfo = {
      id: step.checkpoint,
      path: folder,
      engine: null,
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
  } finally {
    await opened.learner?.close();
    await opened.model?.close();
  }
}

/** Puts a finished folder in the place of an older one; a crash leaves one of the two under its name or beside it. */
async function replaceFolder(from: string, to: string): Promise<void> {
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

/** Training rows of datasets by id or path, one after another. */
export async function readRows(project: Project, names: readonly string[]): Promise<TrainingRow[]> {
  return (await Promise.all(names.map((name) => readTrainingRows(findDataset(project, name))))).flat();
}

async function openLearner(
  project: Project,
  base: CheckpointInfo | null,
  step: TrainStep,
): Promise<{ model: Model; learner: Learner }> {
  if (base === null) {
    throw jobErrors.CUPEL_ENGINE_CANNOT_LEARN({
      message: `trainer "${step.trainer}" needs a base checkpoint`,
      remedy: 'Name one with `base`.',
    });
  }
  const { model } = await openModel(project, base, { plain: true });
  if (model.learner === undefined) {
    await model.close();
    throw jobErrors.CUPEL_ENGINE_CANNOT_LEARN({
      message: `${model.engine} cannot train checkpoint "${base.id}"`,
      where: base.path,
    });
  }
  return { model, learner: await model.learner({ threads: project.config.threads }) };
}

function show(project: Project, task: ReturnType<Project['progress']['begin']>, event: TrainEvent): void {
  if (event.type === 'warning') project.progress.note(`  ${event.code}: ${event.message}`);
  else {
    task.advance();
    task.detail(`loss ${event.loss.toFixed(4)}`);
  }
}
