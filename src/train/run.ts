import { rm, stat } from 'node:fs/promises';
import type { Learner, Recipe, TrainEvent, TrainJob, TrainResult } from '../contracts/index.ts';
import { Course } from './course.ts';
import { trainErrors } from './errors.ts';
import { learnerOptionsOf, teacherOptions } from './learner-options.ts';
import { identityOf, type Run } from './run-record.ts';
import { lockTraining } from './work-lock.ts';

/** Opens the learner (and the teacher), trains, and writes `job.output`. Closes what it opened. */
export async function runTraining(
  run: Run,
  sink: (event: TrainEvent) => void,
  signal?: AbortSignal,
): Promise<TrainResult> {
  const { job, objective, recipe } = run;
  const work = job.work ?? `${job.output}.work`;
  const lock = await lockTraining(work, job.output);
  const opened: Learner[] = [];
  try {
    await refuseExisting(job.output);
    const learner = (await job.openLearner?.(learnerOptionsOf(recipe, objective, job.seed))) ?? noLearner(job);
    opened.push(learner);
    const teacher = objective.head === 'distribution' ? await openTeacher(job, recipe) : null;
    if (teacher !== null) opened.push(teacher);
    const identity = await identityOf(run, teacher);
    return await new Course(run, learner, teacher, identity, work, sink).go(signal);
  } finally {
    try {
      for (const learner of opened) await learner.close();
    } finally {
      await lock.release();
      if (job.work === null) await rm(work, { recursive: true, force: true }).catch(() => {});
    }
  }
}

async function openTeacher(job: TrainJob, recipe: Recipe): Promise<Learner> {
  if (job.openTeacher === null) {
    throw trainErrors.CUPEL_TRAIN_NO_TEACHER({ message: `job ${job.id} names no teacher`, where: 'teacher' });
  }
  return job.openTeacher(teacherOptions(recipe));
}

function noLearner(job: TrainJob): never {
  throw trainErrors.CUPEL_TRAIN_NO_LEARNER({
    message: `job ${job.id} has no learner`,
    where: job.base?.path ?? 'base',
  });
}

async function refuseExisting(folder: string): Promise<void> {
  const found = await stat(folder).catch(() => null);
  if (found === null) return;
  throw trainErrors.CUPEL_TRAIN_OUTPUT_EXISTS({ message: `${folder} exists`, where: folder });
}
