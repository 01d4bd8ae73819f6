import { trainerErrors } from '../errors.ts';
import type { Divergence } from './divergence.ts';
import { lossType, type PairLossName } from './loss-types.ts';

type LossName = PairLossName | 'sft';

export interface PreferenceParameters {
  /** Strength of the pull to the reference. */
  readonly beta: number;
  /** Weight of the mean token −log p of the chosen answers. */
  readonly nllWeight: number;
  /** Share of labels taken to be swapped, in [0, 0.5). */
  readonly labelSmoothing: number;
  /** Weight of the mean token −log p of replayed rows. */
  readonly replayWeight: number;
  /** Default `sigmoid`. Several are summed by `lossWeights`. */
  readonly loss?: LossName | readonly LossName[];
  readonly lossWeights?: readonly number[] | null;
  /** Weight of the tokens beyond the length of the shorter answer; null: 1. */
  readonly ldAlpha?: number | null;
  readonly divergence?: Divergence;
  readonly divergenceAlpha?: number | null;
  readonly discopopTau?: number | null;
}

/** The parameters without gaps, contradictions or idle ones. */
export interface PreferenceSettings {
  readonly beta: number;
  readonly labelSmoothing: number;
  readonly losses: readonly { readonly name: PairLossName; readonly weight: number }[];
  readonly nllWeight: number;
  readonly replayWeight: number;
  readonly ldAlpha: number;
  readonly divergence: Divergence;
  readonly divergenceAlpha: number;
  readonly discopopTau: number;
}

/**
 * @throws CUPEL_TRAINER_PARAMETER where a parameter would do nothing, or contradicts another: TRL 1.16 takes
 * `label_smoothing` in silence with losses that never read it.
 */
export function preferenceSettings(parameters: PreferenceParameters): PreferenceSettings {
  const { beta, labelSmoothing, replayWeight, lossWeights = null, ldAlpha = null } = parameters;
  const { loss = 'sigmoid', divergence = 'reverse_kl', divergenceAlpha = null, discopopTau = null } = parameters;
  const names: readonly LossName[] = typeof loss === 'string' ? [loss] : loss;
  if (lossWeights !== null && lossWeights.length !== names.length) {
    refuse('lossWeights', `has ${lossWeights.length} numbers for ${names.length} losses`, 'Give one weight a loss.');
  }
  const weighted = names.map((name, index) => ({ name, weight: lossWeights?.[index] ?? 1 }));
  const losses = weighted.flatMap(({ name, weight }) => (name === 'sft' ? [] : [{ name, weight }]));
  const likelihood = weighted.find(({ name }) => name === 'sft')?.weight ?? null;
  if (likelihood !== null && parameters.nllWeight > 0) {
    const message = `is ${parameters.nllWeight} beside the loss "sft": the chosen answers would count twice`;
    refuse('nllWeight', message, 'Set `nllWeight: 0`, or leave "sft" out of `loss`.');
  }
  const types = losses.map(({ name }) => ({ name, ...lossType(name) }));
  const shown = names.join(', ');
  if (labelSmoothing > 0 && !types.some(({ smoothed }) => smoothed)) idle('labelSmoothing', shown);
  // As an f32 number: below some 1e-45 that is 0 as well.
  if (Math.fround(labelSmoothing) === 0 && names.includes('exo_pair')) {
    refuse(
      'labelSmoothing',
      `is ${labelSmoothing}, and exo_pair takes its logarithm`,
      'Set it above 0, such as 0.001.',
    );
  }
  if (discopopTau !== null && !names.includes('discopop')) idle('discopopTau', shown);
  if (ldAlpha !== null && losses.length === 0) idle('ldAlpha', shown);
  if (divergence !== 'reverse_kl') {
    const deaf = losses.length === 0 ? 'sft' : types.find(({ divergences }) => !divergences)?.name;
    if (deaf !== undefined) idle('divergence', deaf);
  }
  if (divergenceAlpha !== null && divergence !== 'alpha_divergence') {
    refuse('divergenceAlpha', `does nothing with the divergence ${divergence}`, 'Leave it out.');
  }
  return {
    beta,
    labelSmoothing,
    losses,
    nllWeight: likelihood ?? parameters.nllWeight,
    replayWeight,
    ldAlpha: ldAlpha ?? 1,
    divergence,
    divergenceAlpha: divergenceAlpha ?? 0.5,
    discopopTau: discopopTau ?? 0.05,
  };
}

/** @throws CUPEL_TRAINER_PARAMETER */
export function idle(parameter: string, loss: string): never {
  return refuse(parameter, `does nothing with the loss ${loss}`, 'Leave it out, or choose a loss that reads it.');
}

/** @throws CUPEL_TRAINER_PARAMETER */
export function refuse(parameter: string, message: string, remedy: string): never {
  throw trainerErrors.CUPEL_TRAINER_PARAMETER({
    message: `"${parameter}" ${message}`,
    where: `parameters.${parameter}`,
    remedy,
  });
}
