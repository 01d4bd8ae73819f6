/** Numbers cluster names 0..count-1 in the order of their names, so that the order of rows does not matter. */
export function numberClusters(names: readonly string[]): { readonly cluster: number[]; readonly count: number } {
  const sorted = [...new Set(names)].sort();
  const numbers = new Map(sorted.map((name, index) => [name, index]));
  return { cluster: names.map((name) => numbers.get(name) as number), count: sorted.length };
}

/**
 * Design effect of clustering on the mean of values in [-1, 1]: variance with clusters over variance without (Kish 1965),
 * at least 1. Shrunk by one pseudo-case towards full correlation within clusters: where nothing varies (all passed, no pair
 * differs) the effective size is the number of clusters and not the number of cases, and it grows smoothly from there.
 */
export function designEffect(values: readonly number[], cluster: readonly number[], count: number): number {
  const n = values.length;
  if (n === 0 || count >= n || count < 2) return count < 2 ? Math.max(1, n) : 1;
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  const sums = new Float64Array(count);
  const sizes = new Float64Array(count);
  let squares = 0;
  for (const [i, value] of values.entries()) {
    const key = cluster[i] as number;
    sums[key] = (sums[key] as number) + value - mean;
    sizes[key] = (sizes[key] as number) + 1;
    squares += (value - mean) ** 2;
  }
  const between = sums.reduce((sum, value) => sum + value * value, 0) * (count / (count - 1));
  const size = sizes.reduce((sum, value) => sum + value * value, 0) / n;
  return Math.max(1, (between + size) / (squares + 1));
}
