import type { Objective } from '../src/contracts/index.ts';
import { defineTrainer } from '../src/kit/index.ts';
import { smoothedLogistic } from './lib/preference/margin-losses.ts';
import { idle } from './lib/preference/parameters.ts';
import { chosenLikelihood, labelSmoothing, rewardScale } from './lib/preference/properties.ts';
import { referenceFree } from './lib/preference/reference-free.ts';
import { replayProperties, trainerOptions } from './lib/recipe.ts';
import { withLearner } from './lib/with-learner.ts';

const version = '1.0.0';

export interface CpoParameters {
  readonly beta: number;
  readonly loss: 'sigmoid' | 'hinge' | 'ipo';
  readonly labelSmoothing: number;
  readonly nllWeight: number;
  readonly replayWeight: number;
}

/**
 * Contrastive preference optimisation: preference without a reference model, and likelihood of the chosen answers.
 * −log σ(β (log p(chosen) − log p(rejected))) + w × mean token −log p(chosen); `hinge`: max(0, 1 − m) of the same margin m;
 * `ipo`: (Δ − 1 / (2 β))² of the means over tokens. Xu et al. 2024, arXiv:2401.08417. TRL 1.16: `CPOTrainer`
 * (experimental), `loss_type`, `cpo_alpha`.
 * @throws CUPEL_TRAINER_PARAMETER for label smoothing with a loss that does not read it.
 */
export function cpoObjective(parameters: CpoParameters): Objective {
  const { beta, loss, labelSmoothing: smoothing, nllWeight, replayWeight } = parameters;
  if (smoothing > 0 && loss !== 'sigmoid') idle('labelSmoothing', loss);
  const losses = {
    sigmoid: (difference: number) => {
      const value = smoothedLogistic(beta * difference, smoothing);
      return { loss: value.loss, slope: beta * value.slope };
    },
    hinge: (difference: number) => ({
      loss: Math.max(0, 1 - beta * difference),
      slope: beta * difference < 1 ? -beta : 0,
    }),
    ipo: (difference: number) => {
      const miss = difference - 1 / (2 * beta);
      return { loss: miss * miss, slope: 2 * miss };
    },
  };
  const score = loss === 'ipo' ? 'mean' : 'sum';
  return {
    name: 'cpo',
    version,
    sequences: 'pair',
    reference: false,
    evaluate: (part) => referenceFree(part, { beta, score, loss: losses[loss], nllWeight, replayWeight }),
  };
}

const options = trainerOptions(5e-5, {
  beta: rewardScale(0.1),
  loss: { enum: ['sigmoid', 'hinge', 'ipo'], default: 'sigmoid', description: 'Shape of the preference loss.' },
  nllWeight: chosenLikelihood,
  labelSmoothing: { ...labelSmoothing, description: `${labelSmoothing.description} With sigmoid alone.` },
  ...replayProperties,
});

export default defineTrainer({
  summary: 'Contrastive preference optimisation: no reference, with likelihood of the chosen answers',
  version,
  ...withLearner(options, cpoObjective),
});
