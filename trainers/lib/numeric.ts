/** log(1 + eˣ) without overflow. */
export function softplus(x: number): number {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}

export function sigmoid(x: number): number {
  return x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x));
}

/** Where `boundedExp` leaves eˣ: products of two such numbers with margins of thousands of nats still fit an f32. */
const bound = 30;

/** eˣ with its slope; from x = 30 on its tangent there, so that an extreme margin gives a large number and no infinity. */
export function boundedExp(x: number): { readonly value: number; readonly slope: number } {
  const slope = Math.exp(Math.min(x, bound));
  return { value: x <= bound ? slope : slope * (1 + x - bound), slope };
}
