import type { ObjectivePart, ObjectiveValue } from '../../src/contracts/index.ts';
import { confidentTokenLoss, tokenLoss } from './token-loss.ts';

/**
 * Weighted token mean of −log p over answers and replayed rows:
 * (Σ answers + w Σ replay) / (label weight of answers + w × label weight of replay), over the whole step.
 * @param variant `dft`: each answer token also counts by its own probability (see `confidentTokenLoss`).
 */
export function negativeLogLikelihood(
  part: ObjectivePart,
  replayWeight: number,
  variant: 'nll' | 'dft' = 'nll',
): ObjectiveValue {
  const { examples, replay, totals } = part;
  const scale = 1 / Math.max(1e-12, (totals.labelWeights[0] ?? 0) + replayWeight * totals.replayLabelWeight);
  const answers = variant === 'dft' ? confidentTokenLoss(examples, scale) : tokenLoss(examples, scale);
  const replayed = tokenLoss(replay, scale * replayWeight);
  const metrics: Record<string, number> = {
    [variant === 'dft' ? 'answer_dft' : 'answer_nll']:
      answers.loss / scale / Math.max(1e-12, totals.labelWeights[0] ?? 0),
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
