import type { Objective } from '../src/contracts/index.ts';
import { defineTrainer } from '../src/kit/index.ts';
import { refuse } from './lib/preference/parameters.ts';
import { prospectLoss, type ProspectParameters } from './lib/preference/prospect.ts';
import { replayProperties, trainerOptions } from './lib/recipe.ts';
import { withLearner } from './lib/with-learner.ts';

const version = '1.0.0';

/**
 * Kahneman-Tversky optimisation, from single answers that are desirable or not: mean of λ (1 − σ(β (Δ − kl))) over
 * desirable and λ (1 − σ(β (kl − Δ))) over undesirable answers, Δ = log policy − log reference; kl = max(0, mean Δ) of each
 * prompt with the answer of the next example of the step, without gradient. Ethayarajh et al. 2024, arXiv:2402.01306.
 * `apo_zero_unpaired`: the same with kl = 0 (D'Oosterlinck et al. 2024, arXiv:2408.06266). TRL 1.16: `KTOTrainer`.
 * @throws CUPEL_TRAINER_PARAMETER for steps of one example, which have no mismatched answer, and where both weights are 0.
 */
export function ktoObjective(parameters: ProspectParameters & { readonly batchSize?: number }): Objective {
  if (parameters.loss === 'kto' && parameters.batchSize === 1) {
    const message = 'is 1: the mismatched answer that the divergence is estimated from would be the answer itself';
    refuse('batchSize', message, 'Set it to 2 or more, or choose `loss: apo_zero_unpaired`.');
  }
  if (parameters.desirableWeight === 0 && parameters.undesirableWeight === 0) {
    refuse('desirableWeight', 'and "undesirableWeight" are 0: no answer would teach anything', 'Raise one of them.');
  }
  return {
    name: 'kto',
    version,
    sequences: 'labelled',
    reference: true,
    mismatched: parameters.loss === 'kto',
    evaluate: (part) => prospectLoss(part, parameters),
  };
}

const weight = { type: 'number', minimum: 0, maximum: 100, default: 1 } as const;
const options = trainerOptions(5e-5, {
  beta: {
    type: 'number',
    exclusiveMinimum: 0,
    maximum: 100,
    default: 0.1,
    description: 'Strength of the pull to the reference.',
  },
  loss: {
    enum: ['kto', 'apo_zero_unpaired'],
    default: 'kto',
    description: 'Against the divergence of mismatched answers, or against 0.',
  },
  desirableWeight: { ...weight, description: 'Weight of desirable answers.' },
  undesirableWeight: { ...weight, description: 'Weight of undesirable answers.' },
  ...replayProperties,
});

export default defineTrainer({
  summary: 'Kahneman-Tversky optimisation: single answers, each desirable or not',
  version,
  ...withLearner(options, ktoObjective),
});
