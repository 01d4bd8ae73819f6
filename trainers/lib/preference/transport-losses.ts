import { smoothedLogistic } from './margin-losses.ts';
import type { BatchLoss, PairLoss } from './pair.ts';

/**
 * Distributional preference: the k-th smallest of one quantity is compared with the k-th smallest of another over the
 * whole step, by −(1 − ε) log σ(β Δ) − ε log σ(−β Δ). Equal values keep the order of the examples.
 * Melnyk et al. 2024 (AOT), arXiv:2406.05882.
 */
function matched(
  upper: readonly number[],
  lower: readonly number[],
  beta: number,
  labelSmoothing: number,
): { readonly loss: number[]; readonly upper: number[]; readonly lower: number[] } {
  const [upperOrder, lowerOrder] = [ascending(upper), ascending(lower)];
  const result = { loss: [] as number[], upper: [] as number[], lower: [] as number[] };
  for (const [rank, high] of upperOrder.entries()) {
    const low = lowerOrder[rank] ?? 0;
    const { loss, slope } = smoothedLogistic(beta * ((upper[high] ?? 0) - (lower[low] ?? 0)), labelSmoothing);
    result.loss[high] = loss;
    result.upper[high] = beta * slope;
    result.lower[low] = -beta * slope;
  }
  return result;
}

function ascending(values: readonly number[]): number[] {
  return values.map((_, index) => index).sort((a, b) => (values[a] ?? 0) - (values[b] ?? 0) || a - b);
}

/** Margins of the policy against margins of the reference, each sorted over the step. TRL `aot`. */
export const aotLoss: BatchLoss = (pairs, { beta, labelSmoothing }) => {
  const { loss, upper } = matched(
    pairs.map(({ policyMargin }) => policyMargin),
    pairs.map(({ referenceMargin }) => referenceMargin),
    beta,
    labelSmoothing,
  );
  return loss.map((value, index): PairLoss => {
    const slope = upper[index] ?? 0;
    return { loss: value, chosen: slope, rejected: -slope };
  });
};

/** Scores of the chosen answers against scores of the rejected ones, each sorted over the step. TRL `aot_unpaired`. */
export const aotUnpairedLoss: BatchLoss = (pairs, { beta, labelSmoothing }) => {
  const { loss, upper, lower } = matched(
    pairs.map(({ chosen }) => chosen),
    pairs.map(({ rejected }) => rejected),
    beta,
    labelSmoothing,
  );
  return loss.map((value, index): PairLoss => ({
    loss: value,
    chosen: upper[index] ?? 0,
    rejected: lower[index] ?? 0,
  }));
};
