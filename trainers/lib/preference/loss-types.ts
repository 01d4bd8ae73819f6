import { apoDownLoss, apoZeroLoss, bcoLoss, ncaLoss, sppoLoss } from './absolute-losses.ts';
import {
  discopopLoss,
  exoLoss,
  hingeLoss,
  ipoLoss,
  robustLoss,
  sigmoidLoss,
  sigmoidNormLoss,
} from './margin-losses.ts';
import type { BatchLoss } from './pair.ts';
import { aotLoss, aotUnpairedLoss } from './transport-losses.ts';

interface LossType {
  readonly loss: BatchLoss;
  /** Whether label smoothing changes it. */
  readonly smoothed?: boolean;
  /** Whether it works on scores of another divergence than the reverse KL. */
  readonly divergences?: boolean;
  /** Whether a pair's loss depends on the others of its step. */
  readonly coupled?: boolean;
}

/** The preference losses under their names in TRL 1.16 (`DPOConfig.loss_type`). */
export const lossTypes = {
  sigmoid: { loss: sigmoidLoss, smoothed: true, divergences: true },
  sigmoid_norm: { loss: sigmoidNormLoss, smoothed: true, divergences: true },
  robust: { loss: robustLoss, smoothed: true, divergences: true },
  exo_pair: { loss: exoLoss, smoothed: true, divergences: true },
  hinge: { loss: hingeLoss, divergences: true },
  ipo: { loss: ipoLoss, divergences: true },
  discopop: { loss: discopopLoss, divergences: true },
  nca_pair: { loss: ncaLoss, divergences: true },
  bco_pair: { loss: bcoLoss, divergences: true },
  sppo_hard: { loss: sppoLoss, divergences: true },
  apo_zero: { loss: apoZeroLoss },
  apo_down: { loss: apoDownLoss },
  aot: { loss: aotLoss, smoothed: true, coupled: true },
  aot_unpaired: { loss: aotUnpairedLoss, smoothed: true, coupled: true },
} as const satisfies Readonly<Record<string, LossType>>;

export type PairLossName = keyof typeof lossTypes;

export function lossType(name: PairLossName): LossType {
  return lossTypes[name];
}
