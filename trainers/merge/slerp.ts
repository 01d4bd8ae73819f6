/** Above this |cosine| the sine of the angle carries too few digits to divide by. */
const collinear = 0.9995;
const smallestNorm = 1e-8;

/**
 * Spherical interpolation of two tensors seen as vectors (Shoemake 1985, "Animating rotation with quaternion curves"):
 * sin((1−t)θ)/sin θ · base + sin(tθ)/sin θ · model, where θ is the angle between them. Nearly collinear tensors are
 * interpolated on the straight line, as mergekit 0.1.5 does.
 * @param t 0 gives the base, 1 the model.
 */
export function slerp(base: Float32Array, model: Float32Array, t: number): Float32Array {
  let [dot, ofBase, ofModel] = [0, 0, 0];
  for (let index = 0; index < base.length; index++) {
    const [a, b] = [base[index] as number, model[index] as number];
    dot += a * b;
    ofBase += a * a;
    ofModel += b * b;
  }
  const norm = (squares: number): number => (squares > smallestNorm ** 2 ? Math.sqrt(squares) : 1);
  const cosine = dot / (norm(ofBase) * norm(ofModel));
  let [left, right] = [1 - t, t];
  if (Math.abs(cosine) <= collinear) {
    const angle = Math.acos(cosine);
    [left, right] = [Math.sin((1 - t) * angle) / Math.sin(angle), Math.sin(t * angle) / Math.sin(angle)];
  }
  return base.map((value, index) => left * value + right * (model[index] as number));
}
