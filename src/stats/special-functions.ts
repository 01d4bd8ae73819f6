/** Natural logarithm of the gamma function for x > 0: Stirling's series (DLMF 5.11.1) after raising x to at least 15. */
export function logGamma(x: number): number {
  if (!(x > 0)) return Number.NaN;
  let shift = 1;
  let z = x;
  while (z < 15) {
    shift *= z;
    z += 1;
  }
  return (z - 0.5) * Math.log(z) - z + 0.5 * Math.log(2 * Math.PI) + stirlingTail(z) - Math.log(shift);
}

function stirlingTail(z: number): number {
  const w = 1 / (z * z);
  return (1 / 12 - w * (1 / 360 - w * (1 / 1260 - w * (1 / 1680 - w * (1 / 1188 - (w * 691) / 360360))))) / z;
}

/** Both tails of the regularised incomplete beta function. */
export interface BetaTails {
  /** I_x(a, b). */
  readonly lower: number;
  /** 1 - I_x(a, b), exact to relative precision where it is small. */
  readonly upper: number;
}

/**
 * Regularised incomplete beta function by its continued fraction (DLMF 8.17.22, modified Lentz).
 * @param x in [0, 1]; @param y 1 - x, given apart so that neither end loses digits; @param a, b > 0.
 */
export function incompleteBeta(x: number, y: number, a: number, b: number): BetaTails {
  if (x <= 0) return { lower: 0, upper: 1 };
  if (y <= 0) return { lower: 1, upper: 0 };
  if (x <= (a + 1) / (a + b + 2)) {
    const lower = (Math.exp(logBetaFront(x, y, a, b)) * betaFraction(x, a, b)) / a;
    return { lower, upper: 1 - lower };
  }
  const upper = (Math.exp(logBetaFront(x, y, a, b)) * betaFraction(y, b, a)) / b;
  return { lower: 1 - upper, upper };
}

function logBetaFront(x: number, y: number, a: number, b: number): number {
  const logX = x > 0.5 ? Math.log1p(-y) : Math.log(x);
  const logY = y > 0.5 ? Math.log1p(-x) : Math.log(y);
  return a * logX + b * logY - (logGamma(a) + logGamma(b) - logGamma(a + b));
}

function betaFraction(x: number, a: number, b: number): number {
  const tiny = 1e-300;
  let c = 1;
  let d = 1 / guard(1 - ((a + b) * x) / (a + 1), tiny);
  let result = d;
  for (let m = 1; m <= 10_000; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / guard(1 + even * d, tiny);
    c = guard(1 + even / c, tiny);
    result *= d * c;
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / guard(1 + odd * d, tiny);
    c = guard(1 + odd / c, tiny);
    const factor = d * c;
    result *= factor;
    if (Math.abs(factor - 1) < 1e-16) break;
  }
  return result;
}

function guard(value: number, tiny: number): number {
  return Math.abs(value) < tiny ? tiny : value;
}

/**
 * Solves I_x(a, b) = p by bracketed Newton steps on logit(x), so that x near 0 and near 1 keep their digits.
 * @param p lower tail in [0, 1]; @param q 1 - p, given apart. @returns x and 1 - x.
 */
export function betaQuantile(p: number, q: number, a: number, b: number): { readonly x: number; readonly y: number } {
  if (p <= 0) return { x: 0, y: 1 };
  if (q <= 0) return { x: 1, y: 0 };
  let [low, high] = [-740, 740];
  let u = Math.log(a / b);
  for (let iteration = 0; iteration < 400; iteration++) {
    const [x, y] = [1 / (1 + Math.exp(-u)), 1 / (1 + Math.exp(u))];
    const tails = incompleteBeta(x, y, a, b);
    const error = p <= q ? tails.lower - p : q - tails.upper;
    if (error > 0) high = u;
    else low = u;
    const slope = Math.exp(logBetaFront(x, y, a, b));
    const newton = u - error / slope;
    if (Math.abs(newton - u) <= 1e-15 * Math.max(1, Math.abs(u)) || high - low < 1e-15) break;
    u = newton > low && newton < high ? newton : (low + high) / 2;
  }
  return { x: 1 / (1 + Math.exp(-u)), y: 1 / (1 + Math.exp(u)) };
}
