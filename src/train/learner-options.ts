import type { DistillationObjective, LearnerOptions, Objective, Recipe } from '../contracts/index.ts';

/** The learner that a recipe and an objective ask for. Adapters start from the seed of the job. */
export function learnerOptionsOf(
  recipe: Recipe,
  objective: Pick<Objective | DistillationObjective, 'head'>,
  seed: number,
): LearnerOptions {
  const { tuning, compute, recompute } = recipe;
  const common: LearnerOptions = { compute, recompute, head: objective.head === 'reward' ? 'reward' : 'tokens' };
  if (tuning.kind === 'full') return common;
  const { rank, alpha, targets } = tuning;
  const base = tuning.base ?? (tuning.kind === 'qlora' ? 'q8_0' : 'f32');
  return { ...common, base, adapter: { rank, alpha, seed, ...(targets !== undefined && { targets }) } };
}

export function teacherOptions({ compute }: Pick<Recipe, 'compute'>): LearnerOptions {
  return { compute, frozen: true };
}
