import type { DistillationObjective, Objective, Trainer, TrainServices, TrainJob } from '../../src/contracts/index.ts';
import { trainerErrors } from './errors.ts';
import { readParameters, type RecipeParameters, recipeOf } from './recipe.ts';

/**
 * The members that a trainer gets from its objective alone.
 * @param objectiveOf may throw a coded error where parameters contradict each other.
 */
export function withLearner<P>(
  options: Readonly<Record<string, unknown>>,
  objectiveOf: (parameters: P) => Objective | DistillationObjective,
): Pick<Trainer, 'options' | 'needs' | 'plan' | 'train'> {
  const read = (job: TrainJob): Parameters<TrainServices['plan']> => {
    const parameters = readParameters<P & RecipeParameters>(options, job.parameters, `parameters of job ${job.id}`);
    const objective = objectiveOf(parameters);
    if (objective.head === 'reward' && job.replay !== null) {
      throw trainerErrors.CUPEL_TRAINER_NO_REPLAY({
        message: `job ${job.id} replays rows, and "${objective.name}" learns no text`,
        where: 'replay',
      });
    }
    return [job, objective, recipeOf(parameters)];
  };
  return {
    options,
    needs: 'learner',
    async plan(job) {
      return servicesOf(job).plan(...read(job));
    },
    async train(job, sink, signal) {
      return servicesOf(job).run(...read(job), sink, signal);
    },
  };
}

function servicesOf(job: TrainJob): TrainServices {
  if (job.services !== null) return job.services;
  throw trainerErrors.CUPEL_TRAINER_NO_SERVICES({ message: `job ${job.id} has no training services` });
}
