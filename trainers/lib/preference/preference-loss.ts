import type { ObjectiveExample, ObjectivePart, ObjectiveValue } from '../../../src/contracts/index.ts';
import { replayLoss, sum, tokenLoss } from '../token-loss.ts';
import { divergenceScore } from './divergence.ts';
import { lossType } from './loss-types.ts';
import type { Pair } from './pair.ts';
import type { PreferenceSettings } from './parameters.ts';

/** One answer of a pair: summed log-probabilities and what the loss sees of them. */
interface Side {
  readonly policy: number;
  readonly reference: number;
  readonly ratio: number;
  readonly score: number;
  readonly slope: number;
  readonly tokens: number;
  /** Weight of each token in the sums. */
  readonly weightAt: (token: number) => number;
}

/**
 * Preference losses against a reference, mean over pairs, weighted and summed; plus `nllWeight` × mean token −log p of the
 * chosen answers (RPO, arXiv:2404.19733; TRL loss_type ["sigmoid", "sft"]), plus `replayWeight` × mean token −log p of
 * replayed rows. With `ldAlpha` the tokens of the longer answer beyond the length of the shorter count by that weight
 * (LD-DPO, Liu et al. 2024, arXiv:2409.06411; TRL `ld_alpha`).
 */
export function preferenceLoss(part: ObjectivePart, settings: PreferenceSettings): ObjectiveValue {
  const { beta, losses, nllWeight, replayWeight } = settings;
  const { examples, replay, totals } = part;
  const chosenLoss = tokenLoss(examples, nllWeight / Math.max(1e-12, totals.labelWeights[0] ?? 0));
  const replayed = replayLoss(replay, totals, replayWeight);
  const sides = examples.map((example) => sidesOf(example, settings));
  const pairs = sides.map(([chosen, rejected]): Pair => {
    return {
      chosen: chosen.score,
      rejected: rejected.score,
      chosenTokens: chosen.tokens,
      rejectedTokens: rejected.tokens,
      policyMargin: chosen.policy - rejected.policy,
      referenceMargin: chosen.reference - rejected.reference,
    };
  });
  let preference = 0;
  const slopes = pairs.map(() => [0, 0] as [number, number]);
  for (const { name, weight } of losses) {
    for (const [index, value] of lossType(name).loss(pairs, settings).entries()) {
      preference += (weight * value.loss) / totals.examples;
      const slope = slopes[index] as [number, number];
      slope[0] += weight * value.chosen;
      slope[1] += weight * value.rejected;
    }
  }
  const gradients = sides.map((pair, index) =>
    pair.map(({ slope, weightAt }, side) => {
      const gradient = ((slopes[index]?.[side] ?? 0) * slope) / totals.examples;
      return (chosenLoss.gradients[index]?.[side] ?? []).map((term, token) => term + gradient * weightAt(token));
    }),
  );
  return {
    loss: preference + chosenLoss.loss + replayed.loss,
    gradients,
    replayGradients: replayed.gradients,
    metrics: { preference_loss: preference, ...rewardMetrics(sides, beta, totals.examples) },
  };
}

function sidesOf({ policy, reference }: ObjectiveExample, settings: PreferenceSettings): readonly [Side, Side] {
  const { ldAlpha, divergence, divergenceAlpha } = settings;
  const shared = Math.min(policy[0]?.length ?? 0, policy[1]?.length ?? 0);
  const weightAt = (token: number): number => (token < shared ? 1 : ldAlpha);
  const total = (values: ArrayLike<number>): number =>
    ldAlpha === 1 ? sum(values) : sum(Array.from(values, (value, token) => value * weightAt(token)));
  return [0, 1].map((side): Side => {
    const own = policy[side] ?? [];
    const [log, base] = [total(own), total(reference?.[side] ?? [])];
    const { value: score, slope } = divergenceScore(log - base, divergence, divergenceAlpha);
    return { policy: log, reference: base, ratio: log - base, score, slope, tokens: own.length, weightAt };
  }) as unknown as readonly [Side, Side];
}

/** Rewards are β × log(policy / reference), whatever the loss (TRL `rewards/*`). */
function rewardMetrics(
  sides: readonly (readonly [Side, Side])[],
  beta: number,
  examples: number,
): Readonly<Record<string, number>> {
  const metrics = {
    reward_margin: 0,
    reward_accuracy: 0,
    reward_chosen: 0,
    reward_rejected: 0,
    log_probability_chosen: 0,
  };
  for (const [chosen, rejected] of sides) {
    const margin = beta * (chosen.ratio - rejected.ratio);
    metrics.reward_margin += margin / examples;
    metrics.reward_accuracy += (margin > 0 ? 1 : 0) / examples;
    metrics.reward_chosen += (beta * chosen.ratio) / examples;
    metrics.reward_rejected += (beta * rejected.ratio) / examples;
    metrics.log_probability_chosen += chosen.policy / examples;
  }
  return metrics;
}
