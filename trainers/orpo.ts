import type { Objective } from '../src/contracts/index.ts';
import { defineTrainer } from '../src/kit/index.ts';
import { oddsRatioPreference, type OddsRatioParameters } from './lib/preference/odds-ratio.ts';
import { replayProperties, trainerOptions } from './lib/recipe.ts';
import { withLearner } from './lib/with-learner.ts';

const version = '1.0.0';

/**
 * Odds ratio preference optimisation, fine-tuning and preference in one: mean token −log p of prompt and chosen answer
 * − β × mean log σ(log odds(chosen) − log odds(rejected)), odds = p / (1 − p) of the mean log-probability of an answer.
 * Hong et al. 2024, arXiv:2403.07691, eq. 6 and 7. TRL 1.16: `ORPOTrainer` (experimental), `beta`.
 */
export function orpoObjective(parameters: OddsRatioParameters): Objective {
  return {
    name: 'orpo',
    version,
    sequences: 'pair',
    reference: false,
    promptLabels: true,
    evaluate: (part) => oddsRatioPreference(part, parameters),
  };
}

const options = trainerOptions(5e-5, {
  beta: {
    type: 'number',
    exclusiveMinimum: 0,
    maximum: 100,
    default: 0.1,
    description: 'Weight of the odds ratio beside the likelihood (λ in the paper).',
  },
  ...replayProperties,
});

export default defineTrainer({
  summary: 'Odds ratio preference optimisation: fine-tuning and preference in one, no reference',
  version,
  ...withLearner(options, orpoObjective),
});
