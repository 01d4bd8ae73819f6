import { binomialCdf, binomialMass } from './binomial.ts';

/** p-values of a comparison of two paired rates. */
export interface McNemarResult {
  readonly discordant: number;
  /** Two-sided exact binomial p. */
  readonly exact: number;
  /** Two-sided mid-p. */
  readonly midP: number;
  /** One-sided: the candidate is better. */
  readonly exactGreater: number;
  readonly midPGreater: number;
  /** One-sided: the candidate is worse. */
  readonly midPLess: number;
}

/**
 * McNemar's test on the discordant pairs, exact and mid-p (Fagerland, Lydersen, Laake 2013).
 * Without a discordant pair the two-sided p is 1 and the one-sided mid-p one half: callers must not read that as evidence.
 * @param candidateOnly pairs that only the candidate got right; @param baselineOnly pairs that only the baseline got right.
 */
export function mcNemar(candidateOnly: number, baselineOnly: number): McNemarResult {
  const discordant = candidateOnly + baselineOnly;
  const smaller = Math.min(candidateOnly, baselineOnly);
  const exact = discordant === 0 ? 1 : Math.min(1, 2 * binomialCdf(smaller, discordant, 0.5));
  const atLeast = binomialCdf(baselineOnly, discordant, 0.5);
  const atMost = binomialCdf(candidateOnly, discordant, 0.5);
  const mass = binomialMass(candidateOnly, discordant, 0.5);
  return {
    discordant,
    exact,
    midP: discordant === 0 ? 1 : exact - binomialMass(smaller, discordant, 0.5),
    exactGreater: atLeast,
    midPGreater: atLeast - mass / 2,
    midPLess: atMost - mass / 2,
  };
}
