import type {
  Learner,
  LearnerOptions,
  Model,
  StepShape,
  Trainer,
  TrainingRow,
  TrainJob,
  TrainLogs,
  TrainValidation,
} from '../contracts/index.ts';
import { loadPolicy } from '../gate/index.ts';
import { trainServices } from '../train/index.ts';
import { jobErrors } from './errors.ts';
import { type CheckpointInfo, openModel, type Project } from './project.ts';
import { checkTeacherVocabulary } from './teacher-vocabulary.ts';
import { snapshotInfo } from './train-validation.ts';

/** What is to be trained: everything of a job that is known before anything is opened. */
export interface TrainTask {
  readonly id: string;
  /** Id of the trainer, for messages. */
  readonly trainer: string;
  readonly base: CheckpointInfo | null;
  readonly teacher: CheckpointInfo | null;
  readonly data: readonly TrainingRow[];
  readonly replay: TrainJob['replay'];
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly seed: number;
  /** Absolute path of the folder to write. */
  readonly output: string;
  readonly work: string | null;
  readonly resume: boolean;
  readonly validation: TrainValidation | null;
  readonly logs?: TrainLogs;
}

/**
 * Opens what the trainer needs, hands the job over and closes it again.
 * @throws CUPEL_ENGINE_CANNOT_LEARN where the trainer needs a base that cannot be trained, or none was named
 */
export async function withTrainJob<T>(
  project: Project,
  trainer: Trainer,
  task: TrainTask,
  use: (job: TrainJob) => Promise<T>,
): Promise<T> {
  const { base, teacher } = task;
  const job = {
    id: task.id,
    base: base === null ? null : { id: base.id, path: base.path },
    data: task.data,
    replay: task.replay,
    parameters: task.parameters,
    seed: task.seed,
    output: task.output,
    work: task.work,
    resume: task.resume,
    validation: task.validation,
    environments: project.at('environments'),
    ...(task.logs === undefined ? {} : { logs: task.logs }),
    ...(await regressionSuites(project)),
  };
  if (trainer.needs === 'data') {
    return use({ ...job, model: null, openLearner: null, openTeacher: null, services: null });
  }
  if (base === null) {
    throw jobErrors.CUPEL_ENGINE_CANNOT_LEARN({
      message: `trainer "${task.trainer}" needs a base checkpoint`,
      remedy: 'Name one with `base`.',
    });
  }
  const opened: Model[] = [];
  const open = async (info: CheckpointInfo): Promise<Model> => {
    const { model } = await openModel(project, info, { plain: true });
    opened.push(model);
    return model;
  };
  try {
    const model = await open(base);
    if (trainer.needs === 'learner') learnerOf(model, base);
    let teaching: Promise<Model> | null = null;
    // Opened once, for the plan and the training.
    const openedTeacher = async (info: CheckpointInfo): Promise<Model> => {
      await checkTeacherVocabulary(base, info);
      return (teaching ??= open(info));
    };
    return await use({
      ...job,
      model,
      openLearner: trainer.needs === 'learner' ? (options) => openLearner(project, model, base, options) : null,
      openTeacher:
        trainer.needs === 'learner' && teacher !== null
          ? async (options) => openLearner(project, await openedTeacher(teacher), teacher, options)
          : null,
      ...(teacher !== null && {
        planTeacher: async (options: LearnerOptions, shape: StepShape) =>
          (await (await openedTeacher(teacher)).planLearner?.(options, shape)) ?? null,
      }),
      openSaved: (folder, options) => openSaved(project, task.id, folder, options),
      openSavedModel: async (folder) => {
        const info = snapshotInfo(task.id, folder, base);
        return (await openModel(project, info, { plain: info.adapter === undefined })).model;
      },
      services: trainServices,
    });
  } finally {
    for (const model of opened) await model.close();
  }
}

function openLearner(project: Project, model: Model, info: CheckpointInfo, options: LearnerOptions): Promise<Learner> {
  return learnerOf(model, info)({ threads: project.config.threads, ...options });
}

/** A learner over a folder that was just written, with the model under it: closing one closes both. */
async function openSaved(project: Project, id: string, path: string, options: LearnerOptions): Promise<Learner> {
  const info = { id, path, engine: null, role: 'saved', description: '', training: null };
  const { model } = await openModel(project, info, { plain: true });
  try {
    const learner = await openLearner(project, model, info, options);
    const close = learner.close.bind(learner);
    learner.close = async () => {
      await close();
      await model.close();
    };
    return learner;
  } catch (error) {
    await model.close();
    throw error;
  }
}

/** How many suites the policy guards; absent where there is no policy that can be read: the gate will say so. */
async function regressionSuites(project: Project): Promise<{ readonly regressionSuites?: number }> {
  const { policy } = project.config;
  const loaded = policy === null ? null : await loadPolicy(policy).catch(() => null);
  if (loaded === null) return {};
  const guarded = [...loaded.guards.critical, ...loaded.guards.watch].map(({ metric }) => metric.split('/')[0]);
  return { regressionSuites: new Set(guarded).size };
}

function learnerOf(model: Model, info: CheckpointInfo): (options: LearnerOptions) => Promise<Learner> {
  if (model.learner !== undefined) return model.learner.bind(model);
  throw jobErrors.CUPEL_ENGINE_CANNOT_LEARN({
    message: `${model.engine} cannot train checkpoint "${info.id}"`,
    where: info.path,
  });
}
