import type { Objective, Recipe, Trainer, TrainServices, TrainJob } from '../../src/contracts/index.ts';
import { trainerErrors } from './errors.ts';
import { readParameters, recipeOf } from './recipe.ts';

/** The members that a trainer gets from its objective alone. */
export function withLearner<P extends Recipe>(
  options: Readonly<Record<string, unknown>>,
  objectiveOf: (parameters: P) => Objective,
): Pick<Trainer, 'options' | 'needs' | 'plan' | 'train'> {
  const read = (job: TrainJob): P => readParameters<P>(options, job.parameters, `parameters of job ${job.id}`);
  return {
    options,
    needs: 'learner',
    async plan(job) {
      const parameters = read(job);
      return servicesOf(job).plan(job, objectiveOf(parameters), recipeOf(parameters));
    },
    async train(job, sink, signal) {
      const parameters = read(job);
      return servicesOf(job).run(job, objectiveOf(parameters), recipeOf(parameters), sink, signal);
    },
  };
}

function servicesOf(job: TrainJob): TrainServices {
  if (job.services !== null) return job.services;
  throw trainerErrors.CUPEL_TRAINER_NO_SERVICES({ message: `job ${job.id} has no training services` });
}
