import { sigmoid, softplus } from '../numeric.ts';
import { type BatchLoss, each } from './pair.ts';

/**
 * −log σ(r_c) − ½ log σ(−r_c) − ½ log σ(−r_r), r = β × score. Chen et al. 2024 (NCA), arXiv:2402.05369. TRL `nca_pair`.
 * Unlike a margin it keeps the chosen answer from falling.
 */
export const ncaLoss = each(({ chosen, rejected }, { beta }) => {
  const [good, bad] = [beta * chosen, beta * rejected];
  return {
    loss: softplus(-good) + 0.5 * softplus(good) + 0.5 * softplus(bad),
    chosen: beta * (0.5 * sigmoid(good) - sigmoid(-good)),
    rejected: beta * 0.5 * sigmoid(bad),
  };
});

/**
 * −log σ(r_c) − log σ(−r_r), r = β × score. Jung et al. 2024 (BCO), arXiv:2404.04656. TRL 1.16 `bco_pair`: without the
 * reward shift of the paper.
 */
export const bcoLoss: BatchLoss = each(({ chosen, rejected }, { beta }) => {
  const [good, bad] = [beta * chosen, beta * rejected];
  return {
    loss: softplus(-good) + softplus(bad),
    chosen: -beta * sigmoid(-good),
    rejected: beta * sigmoid(bad),
  };
});

/** (chosen − 1 / (2 β))² + (rejected + 1 / (2 β))². Wu et al. 2024 (SPPO, hard labels), arXiv:2405.00675, eq. 4.7. TRL `sppo_hard`. */
export const sppoLoss = each(({ chosen, rejected }, { beta }) => {
  const [win, lose] = [chosen - 0.5 / beta, rejected + 0.5 / beta];
  return { loss: win * win + lose * lose, chosen: 2 * win, rejected: 2 * lose };
});

/**
 * 1 − σ(r_c) + σ(r_r): chosen up, rejected down; for chosen answers better than what the model says by itself.
 * D'Oosterlinck et al. 2024 (APO), arXiv:2408.06266, eq. 7. TRL `apo_zero`.
 */
export const apoZeroLoss = each(({ chosen, rejected }, { beta }) => {
  const [good, bad] = [sigmoid(beta * chosen), sigmoid(beta * rejected)];
  return {
    loss: sigmoid(-beta * chosen) + bad,
    chosen: -beta * good * sigmoid(-beta * chosen),
    rejected: beta * bad * sigmoid(-beta * rejected),
  };
});

/**
 * σ(r_c) + 1 − σ(r_c − r_r): both down, rejected further; for chosen answers worse than what the model says by itself.
 * APO, eq. 8. TRL `apo_down`.
 */
export const apoDownLoss = each(({ chosen, rejected }, { beta }) => {
  const [good, margin] = [beta * chosen, beta * (chosen - rejected)];
  const pull = beta * sigmoid(margin) * sigmoid(-margin);
  return {
    loss: sigmoid(good) + sigmoid(-margin),
    chosen: beta * sigmoid(good) * sigmoid(-good) - pull,
    rejected: pull,
  };
});
