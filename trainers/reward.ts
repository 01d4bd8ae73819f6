import type { Objective } from '../src/contracts/index.ts';
import { defineTrainer } from '../src/kit/index.ts';
import { bradleyTerry, type BradleyTerryParameters } from './lib/preference/bradley-terry.ts';
import { trainerOptions } from './lib/recipe.ts';
import { withLearner } from './lib/with-learner.ts';

const version = '1.0.0';

/**
 * Reward model: −log σ(r(chosen) − r(rejected) − margin) + c (r(chosen) + r(rejected))², mean over pairs; r is a linear map
 * of the last token's hidden state to one number. Bradley & Terry 1952; Ouyang et al. 2022, arXiv:2203.02155, eq. 1; margin:
 * Touvron et al. 2023, arXiv:2307.09288, eq. 2; centering: Eisenstein et al. 2023, arXiv:2312.09244, eq. 2. TRL 1.16:
 * `RewardTrainer`, the column `margin`, `center_rewards_coefficient`.
 */
export function rewardObjective(parameters: BradleyTerryParameters): Objective {
  return {
    name: 'reward',
    version,
    sequences: 'pair',
    head: 'reward',
    reference: false,
    evaluate: (part) => bradleyTerry(part, parameters),
  };
}

const options = trainerOptions(1e-4, {
  margin: {
    type: 'number',
    minimum: 0,
    maximum: 100,
    default: 0,
    description: 'Lead that is asked of the chosen answer.',
  },
  centering: {
    type: 'number',
    minimum: 0,
    maximum: 100,
    default: 0,
    description: 'Weight of the pull of the rewards of a pair to a mean of 0; 0.01 is usual.',
  },
});

export default defineTrainer({
  summary: 'Reward model: one number an answer, learnt from pairs (Bradley-Terry), for judges',
  version,
  ...withLearner(options, rewardObjective),
});
