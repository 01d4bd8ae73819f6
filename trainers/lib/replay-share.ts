import type { Objective, Recipe, TrainJob } from '../../src/contracts/index.ts';
import { trainerErrors } from './errors.ts';

/**
 * The job with as many replayed rows a step as make up a share of its tokens, to the nearest row and at least one:
 * share / (1 − share) × tokens of a step ÷ mean tokens of a replayed row. Counted on the rows as they are trained, cut
 * into windows where they are.
 * @throws CUPEL_TRAINER_PARAMETER where there is nothing to replay
 */
export async function withReplayShare(
  job: TrainJob,
  objective: Objective,
  recipe: Recipe,
  share: number,
): Promise<TrainJob> {
  if (job.replay === null || job.replay.rows.length === 0) {
    throw trainerErrors.CUPEL_TRAINER_PARAMETER({
      message: `replayShare is ${share}, and job ${job.id} has no rows to replay`,
      where: 'replayShare',
      remedy: 'Name a dataset with `replay`, or leave replayShare out.',
    });
  }
  if (job.services === null) {
    throw trainerErrors.CUPEL_TRAINER_NO_SERVICES({ message: `job ${job.id} has no training services` });
  }
  const { rows, replay } = await job.services.prepare(job, objective, recipe, () => {});
  const mean = (list: typeof rows): number =>
    list.reduce((sum, { sequences }) => sum + (sequences[0]?.tokens.length ?? 0), 0) / Math.max(1, list.length);
  const own = Math.min(recipe.batchSize, rows.length) * mean(rows);
  const perStep = Math.max(1, Math.round(((share / (1 - share)) * own) / Math.max(1, mean(replay))));
  return { ...job, replay: { rows: job.replay.rows, perStep } };
}
