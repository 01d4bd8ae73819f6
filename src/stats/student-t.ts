import { betaQuantile, incompleteBeta } from './special-functions.ts';

/** Upper tail P(T > t) of Student's t with `df` > 0 degrees of freedom (DLMF 8.17: half an incomplete beta). */
export function studentUpper(t: number, df: number): number {
  if (t === Infinity) return 0;
  if (t === -Infinity) return 1;
  const square = t * t;
  const tail = incompleteBeta(df / (df + square), square / (df + square), df / 2, 0.5).lower / 2;
  return t >= 0 ? tail : 1 - tail;
}

/** P(T <= t). */
export function studentCdf(t: number, df: number): number {
  return studentUpper(-t, df);
}

/** Quantile of Student's t for p in (0, 1). */
export function studentQuantile(p: number, df: number): number {
  if (p === 0.5) return 0;
  const tail = Math.min(p, 1 - p);
  const { x, y } = betaQuantile(2 * tail, 1 - 2 * tail, df / 2, 0.5);
  const size = Math.sqrt((df * y) / x);
  return p < 0.5 ? -size : size;
}
