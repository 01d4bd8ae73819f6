import { normalCdf, normalQuantile } from './normal.ts';

/** How a test looks at its effect. */
export interface TestPlan {
  readonly alpha: number;
  readonly sides: 1 | 2;
}

/**
 * Pairs needed to show a distance `effect` with the given power, by the normal approximation (Miller 2024, section 5).
 * Superiority: effect = expected gain - smallest gain that matters. Non-inferiority: effect = expected gain + margin.
 * @param sd standard deviation of one pair's difference; with clusters, sqrt(n) times the cluster-robust error of the mean.
 * @returns a real number; round up. Infinity where effect is not positive.
 */
export function pairsNeeded(sd: number, effect: number, power: number, { alpha, sides }: TestPlan): number {
  if (!(effect > 0)) return Infinity;
  return (((normalQuantile(1 - alpha / sides) + normalQuantile(power)) * sd) / effect) ** 2;
}

/** Smallest effect that n pairs show with the given power. */
export function detectableEffect(sd: number, n: number, power: number, { alpha, sides }: TestPlan): number {
  return ((normalQuantile(1 - alpha / sides) + normalQuantile(power)) * sd) / Math.sqrt(n);
}

/** Chance that n pairs show an effect, by the normal approximation. */
export function powerOf(sd: number, effect: number, n: number, { alpha, sides }: TestPlan): number {
  const shift = (effect * Math.sqrt(n)) / sd;
  const quantile = normalQuantile(1 - alpha / sides);
  return normalCdf(shift - quantile) + (sides === 2 ? normalCdf(-shift - quantile) : 0);
}
