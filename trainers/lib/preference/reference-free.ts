import type { ObjectivePart, ObjectiveValue } from '../../../src/contracts/index.ts';
import { boundedExp } from '../numeric.ts';
import { replayLoss, sum, tokenLoss } from '../token-loss.ts';

/** What of an answer is compared: the sum over its tokens, or the mean over them. */
type Score = 'sum' | 'mean';

interface ReferenceFree {
  readonly beta: number;
  readonly score: Score;
  /** Shape of the reward (AlphaPO): (1 − p^(−α)) / α of the mean; 0: log p itself. */
  readonly alpha?: number;
  /** Loss of chosen − rejected with its slope. */
  readonly loss: (difference: number) => { readonly loss: number; readonly slope: number };
  readonly nllWeight: number;
  readonly replayWeight: number;
}

/**
 * A preference loss of the policy alone, mean over pairs: loss(reward(chosen) − reward(rejected)) + `nllWeight` × mean
 * token −log p of the chosen answers over the whole step + `replayWeight` × mean token −log p of replayed rows.
 */
export function referenceFree(part: ObjectivePart, settings: ReferenceFree): ObjectiveValue {
  const { beta, score, alpha = 0, loss, nllWeight, replayWeight } = settings;
  const { examples, replay, totals } = part;
  const chosenLoss = tokenLoss(examples, nllWeight / Math.max(1e-12, totals.labelWeights[0] ?? 0));
  const replayed = replayLoss(replay, totals, replayWeight);
  const metrics = {
    preference_loss: 0,
    reward_margin: 0,
    reward_accuracy: 0,
    reward_chosen: 0,
    reward_rejected: 0,
    log_probability_chosen: 0,
  };
  const gradients = examples.map(({ policy }, index) => {
    const [chosen, rejected] = [0, 1].map((side) => rewardOf(policy[side] ?? [], score, alpha)) as [Reward, Reward];
    const value = loss(chosen.value - rejected.value);
    const margin = beta * (chosen.value - rejected.value);
    metrics.preference_loss += value.loss / totals.examples;
    metrics.reward_margin += margin / totals.examples;
    metrics.reward_accuracy += (margin > 0 ? 1 : 0) / totals.examples;
    metrics.reward_chosen += (beta * chosen.value) / totals.examples;
    metrics.reward_rejected += (beta * rejected.value) / totals.examples;
    metrics.log_probability_chosen += sum(policy[0] ?? []) / totals.examples;
    return [chosen, rejected].map(({ slope }, side) => {
      const gradient = ((side === 0 ? value.slope : -value.slope) * slope) / totals.examples;
      return (chosenLoss.gradients[index]?.[side] ?? []).map((term) => term + gradient);
    });
  });
  return {
    loss: metrics.preference_loss + chosenLoss.loss + replayed.loss,
    gradients,
    replayGradients: replayed.gradients,
    metrics,
  };
}

interface Reward {
  readonly value: number;
  /** d value / d log-probability of each token. */
  readonly slope: number;
}

function rewardOf(logProbabilities: ArrayLike<number>, score: Score, alpha: number): Reward {
  const share = score === 'mean' ? 1 / Math.max(1, logProbabilities.length) : 1;
  const value = sum(logProbabilities) * share;
  if (alpha === 0) return { value, slope: share };
  const inverse = boundedExp(-alpha * value);
  return { value: (1 - inverse.value) / alpha, slope: inverse.slope * share };
}
