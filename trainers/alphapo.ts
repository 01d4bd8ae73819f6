import type { Objective } from '../src/contracts/index.ts';
import { defineTrainer } from '../src/kit/index.ts';
import { refuse } from './lib/preference/parameters.ts';
import { labelSmoothing, rewardScale, targetMargin } from './lib/preference/properties.ts';
import { simplePreference, type SimplePreferenceParameters } from './lib/preference/simple-preference.ts';
import { replayProperties, trainerOptions } from './lib/recipe.ts';
import { withLearner } from './lib/with-learner.ts';

const version = '1.0.0';

/**
 * SimPO with a shaped reward: −log σ(β (r(chosen) − r(rejected)) − γ), r = (1 − p^(−α)) / α, p = exp(mean log-probability of
 * a token); α → 0 is SimPO. Gupta et al. 2025 (AlphaPO), arXiv:2501.03884. TRL 1.16: `CPOTrainer` (experimental)
 * with `loss_type="alphapo"` and `alpha`.
 * @throws CUPEL_TRAINER_PARAMETER for α = 0.
 */
export function alphapoObjective(parameters: SimplePreferenceParameters & { readonly alpha: number }): Objective {
  if (parameters.alpha === 0) refuse('alpha', 'is 0, which is SimPO', 'Use the trainer simpo.');
  return simplePreference({ name: 'alphapo', version }, parameters);
}

const options = trainerOptions(5e-5, {
  beta: rewardScale(2),
  gamma: targetMargin(0.5),
  alpha: {
    type: 'number',
    minimum: -10,
    maximum: 10,
    default: 0.25,
    description: 'Shape of the reward: above 0 it falls faster where the answer is unlikely.',
  },
  labelSmoothing,
  ...replayProperties,
});

export default defineTrainer({
  summary: 'SimPO with a shaped reward, which slows or hastens the fall of unlikely answers',
  version,
  ...withLearner(options, alphapoObjective),
});
