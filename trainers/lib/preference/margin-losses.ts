import { sigmoid, softplus } from '../numeric.ts';
import { each, ofMargin } from './pair.ts';

/**
 * −(1 − ε) log σ(m) − ε log σ(−m) with its slope: the label is taken to be swapped with probability ε.
 * Source: Mitchell 2023, "A note on DPO with noisy preferences" (cDPO).
 */
export function smoothedLogistic(
  margin: number,
  labelSmoothing: number,
): { readonly loss: number; readonly slope: number } {
  return {
    loss: (1 - labelSmoothing) * softplus(-margin) + labelSmoothing * softplus(margin),
    slope: labelSmoothing - sigmoid(-margin),
  };
}

/** −log σ(m), label smoothing honoured. Rafailov et al. 2023, arXiv:2305.18290, eq. 7. TRL `sigmoid` (which ignores label_smoothing). */
export const sigmoidLoss = ofMargin((margin, { labelSmoothing }) => smoothedLogistic(margin, labelSmoothing));

/**
 * (−(1 − ε) log σ(m) + ε log σ(−m)) / (1 − 2 ε): unbiased where a share ε of the labels is swapped.
 * Chowdhury et al. 2024, arXiv:2403.00409. TRL `robust`.
 */
export const robustLoss = ofMargin((margin, { labelSmoothing }) => {
  const scale = 1 / (1 - 2 * labelSmoothing);
  return {
    loss: ((1 - labelSmoothing) * softplus(-margin) - labelSmoothing * softplus(margin)) * scale,
    slope: (-(1 - labelSmoothing) * sigmoid(-margin) - labelSmoothing * sigmoid(margin)) * scale,
  };
});

/** max(0, 1 − m). Zhao et al. 2023 (SLiC), arXiv:2305.10425. TRL `hinge`. */
export const hingeLoss = ofMargin((margin) => ({ loss: Math.max(0, 1 - margin), slope: margin < 1 ? -1 : 0 }));

/**
 * KL((σ(m), σ(−m)) ‖ (1 − ε, ε)) = σ(m) (log σ(m) − log(1 − ε)) + σ(−m) (log σ(−m) − log ε).
 * Ji et al. 2024 (EXO), arXiv:2402.00856, eq. 16. TRL `exo_pair`, whose logarithms of 1 − ε and ε are f32 numbers; taken
 * over here, because the difference shows in the eighth digit.
 */
export const exoLoss = ofMargin((margin, { labelSmoothing }) => {
  const [win, lose] = [sigmoid(margin), sigmoid(-margin)];
  const epsilon = Math.fround(labelSmoothing);
  const ratioOfWin = -softplus(-margin) - Math.fround(Math.log1p(-epsilon));
  const ratioOfLose = -softplus(margin) - Math.fround(Math.log(epsilon));
  return { loss: win * ratioOfWin + lose * ratioOfLose, slope: win * lose * (ratioOfWin - ratioOfLose) };
});

/**
 * (1 − w) (−log σ(m)) + w e^(−m) with w = σ(m / τ). Lu et al. 2024 (DiscoPOP), arXiv:2406.08414, eq. 5. TRL `discopop`.
 * w e^(−m) is taken as one exponential: with τ ≤ 1 it is finite at every margin.
 */
export const discopopLoss = ofMargin((margin, { discopopTau: tau }) => {
  const [weight, rest] = [sigmoid(margin / tau), sigmoid(-margin / tau)];
  const exponential = Math.exp(-margin - softplus(-margin / tau));
  const logistic = softplus(-margin);
  return {
    loss: rest * logistic + exponential,
    slope: -rest * sigmoid(-margin) - ((weight * rest) / tau) * logistic + exponential * (rest / tau - 1),
  };
});

/**
 * (Δ − 1 / (2 β))² of the mean over tokens: Δ = chosen / |chosen| − rejected / |rejected|.
 * Azar et al. 2023 (IPO), arXiv:2310.12036, eq. 17. TRL `ipo`, which divides by length as well.
 */
export const ipoLoss = each(({ chosen, rejected, chosenTokens, rejectedTokens }, { beta }) => {
  const miss = chosen / chosenTokens - rejected / rejectedTokens - 1 / (2 * beta);
  return { loss: miss * miss, chosen: (2 * miss) / chosenTokens, rejected: (-2 * miss) / rejectedTokens };
});

/** −log σ(β Δ) of the mean over tokens, label smoothing honoured. Lambert et al. 2024 (Tülu 3), arXiv:2411.15124. TRL `sigmoid_norm`. */
export const sigmoidNormLoss = each((pair, { beta, labelSmoothing }) => {
  const { chosen, rejected, chosenTokens, rejectedTokens } = pair;
  const margin = beta * (chosen / chosenTokens - rejected / rejectedTokens);
  const { loss, slope } = smoothedLogistic(margin, labelSmoothing);
  return { loss, chosen: (beta * slope) / chosenTokens, rejected: (-beta * slope) / rejectedTokens };
});
