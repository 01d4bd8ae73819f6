import type { Objective, Recipe } from '../src/contracts/index.ts';
import { defineTrainer } from '../src/kit/index.ts';
import { trainerOptions } from './lib/recipe.ts';
import { type PreferenceParameters, sigmoidPreference } from './lib/sigmoid-preference.ts';
import { withLearner } from './lib/with-learner.ts';

const version = '1.0.0';

/** Direct preference optimisation as an objective; the reference is the model before the first step. */
export function dpoObjective(parameters: PreferenceParameters): Objective {
  return {
    name: 'dpo',
    version,
    sequences: 'pair',
    reference: true,
    evaluate: (part) => sigmoidPreference(part, parameters),
  };
}

const options = trainerOptions(5e-5, {
  beta: { type: 'number', exclusiveMinimum: 0, maximum: 100, default: 0.1 },
  nllWeight: { type: 'number', minimum: 0, maximum: 100, default: 1 },
  labelSmoothing: { type: 'number', minimum: 0, exclusiveMaximum: 0.5, default: 0 },
});

export default defineTrainer({
  summary: 'Direct preference optimisation (sigmoid) with a likelihood term on chosen answers and replay',
  version,
  ...withLearner<Recipe & PreferenceParameters>(options, dpoObjective),
});
