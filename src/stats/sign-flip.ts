import { allEqual } from './paired-mean.ts';

/** Largest number of values whose sign patterns are enumerated. */
export const signFlipLimit = 20;

/**
 * Exact one-sided sign-flip p of H0: differences are symmetric around 0, against "greater": the share of the 2^n sign
 * patterns with a sum of at least the one seen (Fisher's randomisation test). It is what stands in when all differences
 * are equal and a t test would divide by zero: n equal gains give 2^-n, never 0.
 * @returns NaN when more than 20 unequal values are given.
 */
export function signFlipGreaterP(differences: readonly number[]): number {
  const n = differences.length;
  const [first = 0] = differences;
  if (allEqual(differences)) return first > 0 ? 2 ** -n : 1;
  if (n > signFlipLimit) return Number.NaN;
  let sums = [0];
  for (const value of differences) sums = sums.flatMap((sum) => [sum + value, sum - value]);
  const seen = differences.reduce((sum, value) => sum + value, 0);
  const slack = 1e-12 * differences.reduce((sum, value) => sum + Math.abs(value), 0);
  return sums.filter((sum) => sum >= seen - slack).length / 2 ** n;
}
