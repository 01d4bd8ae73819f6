import type { ObjectivePart, ObjectiveValue } from '../../src/contracts/index.ts';
import { sum, tokenLoss } from './token-loss.ts';

export interface PreferenceParameters {
  /** Strength of the pull to the reference. */
  readonly beta: number;
  /** Weight of the mean token −log p of the chosen answers. */
  readonly nllWeight: number;
  /** Share of labels taken to be swapped, in [0, 0.5). Honoured here; TRL 1.16 ignores it for this loss. */
  readonly labelSmoothing: number;
  /** Weight of the mean token −log p of replayed rows. */
  readonly replayWeight: number;
}

/**
 * Direct preference optimisation, sigmoid form, mean over pairs (Rafailov et al. 2023, eq. 7), with conservative label
 * smoothing (Mitchell 2023, cDPO): −(1 − ε) log σ(m) − ε log σ(−m), m = β (Δ chosen − Δ rejected), Δ = policy − reference
 * summed over tokens; plus `nllWeight` × mean token −log p of the chosen answers (RPO; TRL loss_type ["sigmoid", "sft"]),
 * plus `replayWeight` × mean token −log p of replayed rows.
 */
export function sigmoidPreference(part: ObjectivePart, parameters: PreferenceParameters): ObjectiveValue {
  const { beta, nllWeight, labelSmoothing, replayWeight } = parameters;
  const { examples, replay, totals } = part;
  const chosenLoss = tokenLoss(examples, nllWeight / Math.max(1e-12, totals.labelWeights[0] ?? 0));
  const replayed = tokenLoss(replay, replayWeight / Math.max(1e-12, totals.replayLabelWeight));
  let preference = 0;
  const metrics = {
    preference_loss: 0,
    reward_margin: 0,
    reward_accuracy: 0,
    reward_chosen: 0,
    reward_rejected: 0,
    log_probability_chosen: 0,
  };
  const gradients = examples.map(({ policy, reference }, index) => {
    const [chosen, rejected] = [0, 1].map((side) => sum(policy[side] ?? []) - sum(reference?.[side] ?? [])) as [
      number,
      number,
    ];
    const margin = beta * (chosen - rejected);
    preference += ((1 - labelSmoothing) * softplus(-margin) + labelSmoothing * softplus(margin)) / totals.examples;
    const slope = (beta * (labelSmoothing - sigmoid(-margin))) / totals.examples;
    metrics.reward_margin += margin / totals.examples;
    metrics.reward_accuracy += (margin > 0 ? 1 : 0) / totals.examples;
    metrics.reward_chosen += (beta * chosen) / totals.examples;
    metrics.reward_rejected += (beta * rejected) / totals.examples;
    metrics.log_probability_chosen += sum(policy[0] ?? []) / totals.examples;
    return policy.map((_, side) =>
      (chosenLoss.gradients[index]?.[side] ?? []).map((term) => term + (side === 0 ? slope : -slope)),
    );
  });
  metrics.preference_loss = preference;
  return {
    loss: preference + chosenLoss.loss + replayed.loss,
    gradients,
    replayGradients: replayed.gradients,
    metrics,
  };
}

/** log(1 + eˣ) without overflow. */
function softplus(x: number): number {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}

function sigmoid(x: number): number {
  return x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x));
}
