/**
 * Holm's step-down adjustment (Holm 1979): reject where the adjusted p is at most alpha; the chance of any false rejection
 * in the family is at most alpha whatever the dependence. Order of input is kept.
 * @param p values in [0, 1]; NaN is the caller's fault and stays NaN in every place.
 */
export function holm(p: readonly number[]): number[] {
  if (p.some((value) => !(value >= 0 && value <= 1))) return p.map(() => Number.NaN);
  const order = p.map((_, index) => index).sort((i, j) => (p[i] as number) - (p[j] as number) || i - j);
  const adjusted = p.map(() => 1);
  let running = 0;
  for (const [rank, index] of order.entries()) {
    running = Math.max(running, Math.min(1, (p.length - rank) * (p[index] as number)));
    adjusted[index] = running;
  }
  return adjusted;
}
