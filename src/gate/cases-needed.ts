import type { Policy } from '../contracts/index.ts';
import { normalQuantile, pairsNeeded } from '../stats/index.ts';
import type { Measured } from './measure.ts';

/** Power that `casesNeeded` is stated for. */
export const plannedPower = 0.8;

/** Beyond this nobody will collect cases: nothing is said. */
const sayable = 1_000_000;

/**
 * Cases with which a test of `difference > bound` would succeed at 80 % power if the difference and spread seen are the
 * true ones; null where the difference seen does not even point that way. At least one more than there are.
 */
export function casesForDifference({ difference }: Measured, bound: number, policy: Policy): number | null {
  const effect = difference.difference - bound;
  if (!(effect > 0)) return null;
  const { alpha } = policy;
  // Without any variation the score test of margin m needs z^2 (1 - m) / m independent cases.
  const needed =
    difference.sd > 0
      ? pairsNeeded(difference.sd, effect, plannedPower, { alpha, sides: 1 })
      : ((normalQuantile(1 - alpha) ** 2 * Math.max(0, 1 - effect)) / effect) * (difference.n / difference.clusters);
  return atLeastMore(needed, difference.n);
}

/** The same for a bound on the candidate's own rate; `effect` is how far the rate lies on the good side. */
export function casesForRate(
  rate: number,
  bound: number,
  effect: number,
  n: number,
  designEffect: number,
  policy: Policy,
): number | null {
  if (!(effect > 0)) return null;
  const spread =
    normalQuantile(1 - policy.alpha) * Math.sqrt(bound * (1 - bound)) +
    normalQuantile(plannedPower) * Math.sqrt(rate * (1 - rate));
  return atLeastMore((spread / effect) ** 2 * designEffect, n);
}

function atLeastMore(needed: number, have: number): number | null {
  const cases = Math.max(have + 1, Math.ceil(needed));
  return cases <= sayable ? cases : null;
}
