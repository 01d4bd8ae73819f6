import type { ObjectivePart, ObjectiveTotals, ObjectiveValue } from '../../../src/contracts/index.ts';
import { sigmoid } from '../numeric.ts';
import { replayLoss, sum } from '../token-loss.ts';

export interface ProspectParameters {
  readonly beta: number;
  readonly loss: 'kto' | 'apo_zero_unpaired';
  readonly desirableWeight: number;
  readonly undesirableWeight: number;
  readonly replayWeight: number;
}

/**
 * Mean over examples of λ (1 − σ(± (β Δ − β kl))), + and λ = `desirableWeight` for a desirable answer, − and
 * `undesirableWeight` for another; Δ = log policy − log reference, summed over tokens. No gradient passes through kl, which
 * is 0 for `apo_zero_unpaired`.
 */
export function prospectLoss(part: ObjectivePart, parameters: ProspectParameters): ObjectiveValue {
  const { beta, desirableWeight, undesirableWeight, replayWeight } = parameters;
  const { examples, replay, totals } = part;
  const replayed = replayLoss(replay, totals, replayWeight);
  const kl = parameters.loss === 'kto' ? mismatchedDivergence(totals) : 0;
  const desirable = totals.desirable ?? examples.filter((example) => example.desirable === true).length;
  const undesirable = totals.examples - desirable;
  let preference = 0;
  const rewards = { desirable: 0, undesirable: 0 };
  const gradients = examples.map((example) => {
    const own = example.policy[0] ?? [];
    const ratio = sum(own) - sum(example.reference?.[0] ?? []);
    const good = example.desirable === true;
    const weight = good ? desirableWeight : undesirableWeight;
    const sign = good ? 1 : -1;
    const value = sign * beta * (ratio - kl);
    preference += (weight * sigmoid(-value)) / totals.examples;
    rewards[good ? 'desirable' : 'undesirable'] += beta * ratio;
    const gradient = (-sign * weight * beta * sigmoid(value) * sigmoid(-value)) / totals.examples;
    return example.policy.map((list) => Array.from(list, () => gradient));
  });
  const metrics: Record<string, number> = { preference_loss: preference };
  if (parameters.loss === 'kto') metrics['kl'] = (kl * examples.length) / totals.examples;
  if (desirable > 0) metrics['reward_desirable'] = rewards.desirable / desirable;
  if (undesirable > 0) metrics['reward_undesirable'] = rewards.undesirable / undesirable;
  return { loss: preference + replayed.loss, gradients, replayGradients: replayed.gradients, metrics };
}

/**
 * max(0, mean of log policy − log reference of mismatched answers), over the whole step. A step of one example has no
 * mismatched answer, its own would come round again: there the estimate is its lower bound 0.
 */
function mismatchedDivergence({ mismatched = [] }: ObjectiveTotals): number {
  if (mismatched.length < 2) return 0;
  const total = mismatched.reduce((rest, { policy, reference }) => rest + sum(policy) - sum(reference), 0);
  return Math.max(0, total / mismatched.length);
}
