import type { Objective } from '../src/contracts/index.ts';
import { defineTrainer } from '../src/kit/index.ts';
import { chosenLikelihood, labelSmoothing, rewardScale, targetMargin } from './lib/preference/properties.ts';
import { simplePreference, type SimplePreferenceParameters } from './lib/preference/simple-preference.ts';
import { replayProperties, trainerOptions } from './lib/recipe.ts';
import { withLearner } from './lib/with-learner.ts';

const version = '1.0.0';

/**
 * SimPO with the likelihood term of CPO: −log σ(β (r(chosen) − r(rejected)) − γ) + w × mean token −log p(chosen), r = mean
 * log-probability of a token. Meng et al. 2024, arXiv:2405.14734; Xu et al. 2024, arXiv:2401.08417. TRL 1.16: `CPOTrainer`
 * (experimental) with `loss_type="simpo"` and `cpo_alpha` above 0.
 */
export function cpoSimpoObjective(parameters: SimplePreferenceParameters): Objective {
  return simplePreference({ name: 'cpo-simpo', version }, parameters);
}

const options = trainerOptions(5e-5, {
  beta: rewardScale(2),
  gamma: targetMargin(1),
  nllWeight: chosenLikelihood,
  labelSmoothing,
  ...replayProperties,
});

export default defineTrainer({
  summary: 'SimPO with likelihood of the chosen answers, which keeps them from falling',
  version,
  ...withLearner(options, cpoSimpoObjective),
});
