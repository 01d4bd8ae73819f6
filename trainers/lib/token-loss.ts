import type { ObjectiveExample, ObjectiveTotals } from '../../src/contracts/index.ts';

/** Sum over labelled tokens of weight × value. */
export function weightedSum(values: ArrayLike<number>, weights: ArrayLike<number>): number {
  let total = 0;
  for (let token = 0; token < values.length; token++) total += (weights[token] ?? 0) * (values[token] ?? 0);
  return total;
}

export function sum(values: ArrayLike<number>): number {
  let total = 0;
  for (let token = 0; token < values.length; token++) total += values[token] ?? 0;
  return total;
}

interface TokenLoss {
  readonly loss: number;
  /** [example][sequence][token]; zero for sequences after the first. */
  readonly gradients: number[][][];
}

/**
 * Negative log-likelihood of the first sequence of each example: scale × Σ weight × −log p. With scale = 1 / label
 * weight of the whole step this is the token mean, the same in one batch or in several (TRL SFTTrainer.compute_loss,
 * `num_items_in_batch`).
 */
export function tokenLoss(examples: readonly ObjectiveExample[], scale: number): TokenLoss {
  let loss = 0;
  const gradients = examples.map(({ policy, weights }) =>
    policy.map((logProbabilities, index) => {
      const own = weights[index] ?? [];
      if (index > 0) return Array.from(logProbabilities, () => 0);
      loss -= scale * weightedSum(logProbabilities, own);
      return Array.from(own, (weight) => -scale * weight);
    }),
  );
  return { loss, gradients };
}

/**
 * Dynamic fine-tuning: scale × Σ weight × p × −log p of the first sequences, where p is the token's own probability and no
 * gradient passes through it. Wu et al. 2025, arXiv:2508.05629. TRL SFTConfig `loss_type="dft"`.
 */
export function confidentTokenLoss(examples: readonly ObjectiveExample[], scale: number): TokenLoss {
  return tokenLoss(
    examples.map((example) => ({
      ...example,
      weights: example.policy.map((list, index) =>
        Array.from(list, (value, token) => (example.weights[index]?.[token] ?? 0) * Math.exp(value)),
      ),
    })),
    scale,
  );
}

/** Weight × mean token −log p of the replayed rows of the step; nothing where there are none. */
export function replayLoss(replay: readonly ObjectiveExample[], totals: ObjectiveTotals, weight: number): TokenLoss {
  return tokenLoss(replay, weight / Math.max(1e-12, totals.replayLabelWeight));
}
