import type { Objective } from '../src/contracts/index.ts';
import { defineTrainer } from '../src/kit/index.ts';
import { labelSmoothing, rewardScale, targetMargin } from './lib/preference/properties.ts';
import { simplePreference, type SimplePreferenceParameters } from './lib/preference/simple-preference.ts';
import { replayProperties, trainerOptions } from './lib/recipe.ts';
import { withLearner } from './lib/with-learner.ts';

const version = '1.0.0';

/**
 * Simple preference optimisation: −log σ(β (r(chosen) − r(rejected)) − γ), r = mean log-probability of a token; no reference.
 * Meng et al. 2024, arXiv:2405.14734, eq. 6. TRL 1.16: `CPOTrainer` (experimental) with `loss_type="simpo"`, `simpo_gamma`
 * and `cpo_alpha=0`, whose default of 1 would make it CPO-SimPO.
 */
export function simpoObjective(parameters: SimplePreferenceParameters): Objective {
  return simplePreference({ name: 'simpo', version }, parameters);
}

const options = trainerOptions(5e-5, {
  beta: rewardScale(2),
  gamma: targetMargin(1),
  labelSmoothing,
  ...replayProperties,
});

export default defineTrainer({
  summary: 'Simple preference optimisation: mean log-probability as reward, a margin, no reference',
  version,
  ...withLearner(options, simpoObjective),
});
