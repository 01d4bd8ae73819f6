import type { Objective } from '../../../src/contracts/index.ts';
import { smoothedLogistic } from './margin-losses.ts';
import { referenceFree } from './reference-free.ts';

export interface SimplePreferenceParameters {
  readonly beta: number;
  readonly gamma: number;
  readonly labelSmoothing: number;
  readonly replayWeight: number;
  /** Weight of the mean token −log p of the chosen answers. Default 0. */
  readonly nllWeight?: number;
  /** Shape of the reward. Default 0: the mean log-probability itself. */
  readonly alpha?: number;
}

/**
 * −log σ(β (r(chosen) − r(rejected)) − γ), r the mean log-probability of a token (or (1 − p^(−α)) / α of it), label
 * smoothing honoured: what SimPO, CPO-SimPO and AlphaPO have in common.
 */
export function simplePreference(
  head: Pick<Objective, 'name' | 'version'>,
  parameters: SimplePreferenceParameters,
): Objective {
  const { beta, gamma, labelSmoothing, replayWeight, nllWeight = 0, alpha = 0 } = parameters;
  const loss = (difference: number): { loss: number; slope: number } => {
    const value = smoothedLogistic(beta * difference - gamma, labelSmoothing);
    return { loss: value.loss, slope: beta * value.slope };
  };
  return {
    ...head,
    sequences: 'pair',
    reference: false,
    evaluate: (part) => referenceFree(part, { beta, score: 'mean', alpha, loss, nllWeight, replayWeight }),
  };
}
