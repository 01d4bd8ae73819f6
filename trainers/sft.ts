import type { Objective } from '../src/contracts/index.ts';
import { defineTrainer } from '../src/kit/index.ts';
import { negativeLogLikelihood } from './lib/nll.ts';
import { replayProperties, trainerOptions } from './lib/recipe.ts';
import { withLearner } from './lib/with-learner.ts';

const version = '1.0.0';

export interface SftParameters {
  readonly replayWeight: number;
  /** Default `nll`. */
  readonly loss?: 'nll' | 'dft';
}

/**
 * Supervised fine-tuning: Σ w (−log p) / Σ w over the labelled tokens of a whole step, w the weight of the message. Of
 * preference rows it learns the chosen answers: the control of every preference run. TRL 1.16: `SFTTrainer`, `loss_type`
 * `nll` or `dft`, with `num_items_in_batch` over all micro-batches.
 */
export function sftObjective({ replayWeight, loss = 'nll' }: SftParameters): Objective {
  return {
    name: 'sft',
    version,
    sequences: 'answer',
    reference: false,
    evaluate: (part) => negativeLogLikelihood(part, replayWeight, loss),
  };
}

const options = trainerOptions(1e-3, {
  loss: {
    enum: ['nll', 'dft'],
    default: 'nll',
    description: 'Cross-entropy, or dynamic fine-tuning: each token also counts by its own probability.',
  },
  ...replayProperties,
});

export default defineTrainer({
  summary: 'Supervised fine-tuning: token cross-entropy on answers, with replay',
  version,
  ...withLearner(options, sftObjective),
});
