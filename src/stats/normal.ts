/** Density of the standard normal distribution. */
export function normalDensity(x: number): number {
  return Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI);
}

/** Upper tail P(Z > x) of the standard normal; relative precision is kept far into the tail. */
export function normalUpper(x: number): number {
  return normalCdf(-x);
}

/** P(Z <= x): Taylor-like series in the middle (DLMF 7.6.2), Laplace's continued fraction in the tails (DLMF 7.9.3). */
export function normalCdf(x: number): number {
  if (Number.isNaN(x)) return Number.NaN;
  if (x >= 3) return 1 - millsRatio(x) * normalDensity(x);
  if (x <= -3) return millsRatio(-x) * normalDensity(x);
  let term = x;
  let sum = x;
  for (let k = 1; Math.abs(term) > 1e-18 * Math.abs(sum); k++) {
    term *= (x * x) / (2 * k + 1);
    sum += term;
  }
  return 0.5 + normalDensity(x) * sum;
}

function millsRatio(x: number): number {
  let tail = x;
  for (let k = 160; k >= 1; k--) tail = x + k / tail;
  return 1 / tail;
}

// prettier-ignore
const coefficients = {
  a: [2509.0809287301227, 33430.57558358813, 67265.7709270087, 45921.95393154987, 13731.69376550946, 1971.5909503065513, 133.14166789178438, 3.3871328727963665],
  b: [5226.495278852854, 28729.085735721943, 39307.89580009271, 21213.794301586597, 5394.196021424751, 687.1870074920579, 42.31333070160091, 1],
  c: [0.0007745450142783414, 0.022723844989269184, 0.2417807251774506, 1.2704582524523684, 3.6478483247632045, 5.769497221460691, 4.630337846156546, 1.4234371107496835],
  d: [1.0507500716444169e-09, 0.0005475938084995345, 0.015198666563616457, 0.14810397642748008, 0.6897673349851, 1.6763848301838038, 2.053191626637759, 1],
  e: [2.0103343992922881e-07, 2.7115555687434876e-05, 0.0012426609473880784, 0.026532189526576124, 0.29656057182850487, 1.7848265399172913, 5.463784911164114, 6.657904643501103],
  f: [2.0442631033899397e-15, 1.421511758316446e-07, 1.8463183175100548e-05, 0.0007868691311456133, 0.014875361290850615, 0.1369298809227358, 0.599832206555888, 1],
} as const;

function polynomial(values: readonly number[], x: number): number {
  return values.reduce((sum, value) => sum * x + value, 0);
}

/** Quantile of the standard normal for p in [0, 1]. Wichura (1988), algorithm AS 241, PPND16: about 1e-16 relative. */
export function normalQuantile(p: number): number {
  const { a, b, c, d, e, f } = coefficients;
  if (!(p >= 0 && p <= 1)) return Number.NaN;
  if (p === 0) return -Infinity;
  if (p === 1) return Infinity;
  const centred = p - 0.5;
  if (Math.abs(centred) <= 0.425) {
    const r = 0.180625 - centred * centred;
    return (centred * polynomial(a, r)) / polynomial(b, r);
  }
  const r = Math.sqrt(-Math.log(centred < 0 ? p : 1 - p));
  const size = r <= 5 ? polynomial(c, r - 1.6) / polynomial(d, r - 1.6) : polynomial(e, r - 5) / polynomial(f, r - 5);
  return centred < 0 ? -size : size;
}
