import type { Objective, Recipe } from '../src/contracts/index.ts';
import { defineTrainer } from '../src/kit/index.ts';
import { negativeLogLikelihood } from './lib/nll.ts';
import { trainerOptions } from './lib/recipe.ts';
import { withLearner } from './lib/with-learner.ts';

const version = '1.0.0';

/** Supervised fine-tuning as an objective. Of preference rows it learns the chosen answers: the control of every preference run. */
export function sftObjective({ replayWeight }: { readonly replayWeight: number }): Objective {
  return {
    name: 'sft',
    version,
    sequences: 'answer',
    reference: false,
    evaluate: (part) => negativeLogLikelihood(part, replayWeight),
  };
}

export default defineTrainer({
  summary: 'Supervised fine-tuning: token cross-entropy on answers, with replay',
  version,
  ...withLearner<Recipe & { readonly replayWeight: number }>(trainerOptions(1e-3), sftObjective),
});
