import type { ObjectivePart, ObjectiveValue } from '../../src/contracts/index.ts';
import { tokenLoss } from './token-loss.ts';

/**
 * Weighted token mean of −log p over answers and replayed rows:
 * (Σ answers + w Σ replay) / (label weight of answers + w × label weight of replay), over the whole step.
 */
export function negativeLogLikelihood(part: ObjectivePart, replayWeight: number): ObjectiveValue {
  const { examples, replay, totals } = part;
  const scale = 1 / Math.max(1e-12, (totals.labelWeights[0] ?? 0) + replayWeight * totals.replayLabelWeight);
  const answers = tokenLoss(examples, scale);
  const replayed = tokenLoss(replay, scale * replayWeight);
  const metrics: Record<string, number> = {
    answer_nll: answers.loss / scale / Math.max(1e-12, totals.labelWeights[0] ?? 0),
  };
  if (totals.replayLabelWeight > 0 && replayWeight > 0) {
    metrics['replay_nll'] = replayed.loss / (scale * replayWeight) / totals.replayLabelWeight;
  }
  return {
    loss: answers.loss + replayed.loss,
    gradients: answers.gradients,
    replayGradients: replayed.gradients,
    metrics,
  };
}
