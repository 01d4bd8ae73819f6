import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type {
  DistillationObjective,
  Model,
  Objective,
  Recipe,
  TrainEvent,
  TrainingRecord,
  TrainJob,
  TrainServices,
} from '../contracts/index.ts';
import { raiseFindings } from './checks/finding.ts';
import { checkPrepared, checkTraining } from './checks/index.ts';
import { trainErrors } from './errors.ts';
import { type ExampleShape, prepareExamples } from './examples.ts';
import { stepOrder } from './order.ts';
import { planOf, type Prepared } from './plan.ts';
import { runTraining } from './run.ts';
import { learningRateAt } from './schedule.ts';
import { shownExamples } from './shown-examples.ts';
import { templateDigest } from './template-digest.ts';

/** The training room, for trainers that need an open base. Stateless. */
export const trainServices: TrainServices = {
  async plan(job, objective, recipe) {
    const model = modelOf(job);
    return planOf(
      job,
      model,
      objective,
      recipe,
      prepare(job, model, shapeOf(objective), recipe, () => {}),
    );
  },

  async run(job, objective, recipe, sink, signal) {
    const model = modelOf(job);
    const shape = shapeOf(objective);
    const prepared = prepare(job, model, shape, recipe, sink);
    for (const event of shownExamples(model, prepared.examples)) sink(event);
    const { data: rows, parameters } = job;
    const { examples } = prepared;
    const replay = prepared.replay !== null;
    const template = { template: templateDigest(model), recordedTemplate: await recordedTemplate(job) };
    const findings = checkTraining({
      model,
      rows,
      examples,
      objective: shape,
      recipe,
      parameters,
      replay,
      ...template,
      ...(job.regressionSuites !== undefined && { regressionSuites: job.regressionSuites }),
    });
    raiseFindings(findings, sink);
    return runTraining({ job, model, objective, recipe, prepared }, sink, signal);
  },

  async prepare(job, shape, recipe, sink) {
    const model = modelOf(job);
    const { examples, replay } = prepare(job, model, shape, recipe, sink);
    for (const event of shownExamples(model, examples)) sink(event);
    const template = { template: templateDigest(model), recordedTemplate: await recordedTemplate(job) };
    raiseFindings(checkPrepared({ model, rows: job.data, examples, objective: shape, ...template }), sink);
    return { rows: examples, replay: replay?.examples ?? [] };
  },

  steps(recipe, rows, seed) {
    const order = stepOrder(rows, recipe, seed);
    return order.map((indices, step) => ({
      rows: indices,
      learningRate: learningRateAt(recipe, step, order.length),
    }));
  },
};

function prepare(
  job: TrainJob,
  model: Model,
  shape: ExampleShape,
  recipe: Pick<Recipe, 'overlong' | 'maxTokens'>,
  sink: (event: TrainEvent) => void,
): Prepared {
  const examples = prepareExamples(model, job.data, shape, recipe, sink);
  if (job.replay === null || job.replay.perStep === 0) return { examples, replay: null };
  const replayed: ExampleShape = { name: shape.name, sequences: 'answer' };
  return {
    examples,
    replay: {
      examples: prepareExamples(model, job.replay.rows, replayed, recipe, sink),
      perStep: job.replay.perStep,
    },
  };
}

/** Distillation learns answers, as fine-tuning does. */
function shapeOf(objective: Objective | DistillationObjective): ExampleShape {
  return objective.head === 'distribution' ? { name: objective.name, sequences: 'answer' } : objective;
}

/** Of a base that was trained here: the template that it was trained with. */
async function recordedTemplate({ base }: TrainJob): Promise<string | null> {
  if (base === null) return null;
  const text = await readFile(join(base.path, 'cupel_run.json'), 'utf8').catch(() => '{}');
  try {
    const { templateDigest: recorded } = JSON.parse(text) as Readonly<Record<keyof TrainingRecord, unknown>>;
    return typeof recorded === 'string' ? recorded : null;
  } catch {
    return null;
  }
}

function modelOf(job: TrainJob): Model {
  if (job.model !== null && (job.openLearner !== null || job.services !== null)) return job.model;
  throw trainErrors.CUPEL_TRAIN_NO_LEARNER({
    message: `job ${job.id} has no open base model`,
    where: job.base?.path ?? 'base',
  });
}
