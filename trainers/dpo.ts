import type { Objective } from '../src/contracts/index.ts';
import { defineTrainer } from '../src/kit/index.ts';
import { lossType, lossTypes } from './lib/preference/loss-types.ts';
import { type PreferenceParameters, preferenceSettings } from './lib/preference/parameters.ts';
import { preferenceLoss } from './lib/preference/preference-loss.ts';
import { replayProperties, trainerOptions } from './lib/recipe.ts';
import { withLearner } from './lib/with-learner.ts';

const version = '1.0.0';

/**
 * Direct preference optimisation: mean over pairs of −log σ(β (Δ chosen − Δ rejected)), Δ = log policy − log reference
 * summed over the tokens of an answer, or another of the losses in `lib/preference`; the reference is the model before the
 * first step. Rafailov et al. 2023, arXiv:2305.18290, eq. 7. TRL 1.16: `DPOTrainer`, `loss_type`, `loss_weights`.
 * @throws CUPEL_TRAINER_PARAMETER where parameters contradict each other or do nothing.
 */
export function dpoObjective(parameters: PreferenceParameters): Objective {
  const settings = preferenceSettings(parameters);
  return {
    name: 'dpo',
    version,
    sequences: 'pair',
    reference: settings.losses.length > 0,
    coupled: settings.losses.some(({ name }) => lossType(name).coupled === true),
    evaluate: (part) => preferenceLoss(part, settings),
  };
}

const names = [...Object.keys(lossTypes), 'sft'];
const options = trainerOptions(5e-5, {
  beta: {
    type: 'number',
    exclusiveMinimum: 0,
    maximum: 100,
    default: 0.1,
    description: 'Strength of the pull to the reference.',
  },
  loss: {
    type: ['string', 'array'],
    minItems: 1,
    uniqueItems: true,
    items: { enum: names },
    if: { type: 'string' },
    then: { enum: names },
    default: 'sigmoid',
    description: 'One loss, or several that are summed by `lossWeights`.',
  },
  lossWeights: {
    type: ['array', 'null'],
    items: { type: 'number', exclusiveMinimum: 0, maximum: 100 },
    default: null,
    description: 'One weight a loss; null: 1 each.',
  },
  nllWeight: {
    type: 'number',
    minimum: 0,
    maximum: 100,
    default: 1,
    description: 'Weight of the mean token −log p of the chosen answers; 0: the preference loss alone.',
  },
  labelSmoothing: {
    type: 'number',
    minimum: 0,
    exclusiveMaximum: 0.5,
    default: 0,
    description: 'Share of labels taken to be swapped, for the losses that read it.',
  },
  ldAlpha: {
    type: ['number', 'null'],
    minimum: 0,
    maximum: 1,
    default: null,
    description: 'Weight of the tokens beyond the length of the shorter answer; null: 1.',
  },
  divergence: {
    enum: ['reverse_kl', 'forward_kl', 'js_divergence', 'alpha_divergence'],
    default: 'reverse_kl',
    description: 'What ties the policy to its reference.',
  },
  divergenceAlpha: {
    type: ['number', 'null'],
    minimum: -10,
    maximum: 10,
    default: null,
    description: 'α of the α-divergence; null: 0.5.',
  },
  discopopTau: {
    type: ['number', 'null'],
    exclusiveMinimum: 0,
    maximum: 1,
    default: null,
    description: 'Temperature of the blend in discopop; null: 0.05.',
  },
  ...replayProperties,
});

export default defineTrainer({
  summary: 'Direct preference optimisation and its kin, with a likelihood term on chosen answers and replay',
  version,
  ...withLearner(options, dpoObjective),
});
