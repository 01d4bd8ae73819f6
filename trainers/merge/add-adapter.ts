/**
 * W + scale · B A (LoRA: Hu et al. 2021, arXiv:2106.09685), row-major. Products are summed over the rank in f64 and
 * rounded once.
 * @param weight [outputs × inputs]; @param a [rank × inputs]; @param b [outputs × rank]
 */
export function addAdapter(
  weight: Float32Array,
  {
    a,
    b,
    rank,
    scale,
  }: { readonly a: Float32Array; readonly b: Float32Array; readonly rank: number; readonly scale: number },
): Float32Array {
  const inputs = a.length / rank;
  const outputs = b.length / rank;
  const merged = new Float32Array(weight.length);
  const row = new Float64Array(inputs);
  for (let output = 0; output < outputs; output++) {
    row.fill(0);
    for (let k = 0; k < rank; k++) {
      const factor = scale * (b[output * rank + k] as number);
      for (let input = 0; input < inputs; input++) {
        row[input] = (row[input] as number) + factor * (a[k * inputs + input] as number);
      }
    }
    const start = output * inputs;
    for (let input = 0; input < inputs; input++) {
      merged[start + input] = (weight[start + input] as number) + (row[input] as number);
    }
  }
  return merged;
}
