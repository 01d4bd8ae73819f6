import { resampleIndices, percentileInterval } from './bootstrap.ts';
import { numberClusters } from './clusters.ts';
import type { Interval } from './wilson.ts';

/** Length as the length-controlled regression counts it: Unicode code points, not UTF-16 units. */
export function codePointLength(text: string): number {
  let length = 0;
  for (const _ of text) length++;
  return length;
}

/** One comparison: how far the candidate is preferred, in [0, 1], and how much longer it is, in code points. */
export interface LengthPoint {
  readonly preference: number;
  readonly lengthDifference: number;
  readonly cluster: string;
}

/** Coefficients of logit P(candidate preferred) = bias + length * tanh(difference / sd). */
export interface LengthFit {
  readonly bias: number;
  /** null where all lengths differ equally: then nothing can be said about length. */
  readonly length: number | null;
}

/**
 * The minimal length-controlled model of AlpacaEval 2 (Dubois et al. 2024, arXiv 2404.04475), without instruction
 * difficulty: logistic regression with fractional targets, Newton's method, a ridge on both coefficients that keeps
 * separated data finite. sd is that of the length differences (n - 1).
 */
export function fitLengthModel(points: readonly LengthPoint[], ridge: number): LengthFit {
  const n = points.length;
  const mean = points.reduce((sum, point) => sum + point.lengthDifference, 0) / n;
  const sd = Math.sqrt(points.reduce((sum, point) => sum + (point.lengthDifference - mean) ** 2, 0) / (n - 1));
  const preferences = points.map((point) => point.preference);
  if (!(sd > 0))
    return {
      bias: newton(
        points.map(() => 0),
        preferences,
        ridge,
      )[0],
      length: null,
    };
  const [bias, length] = newton(
    points.map((point) => Math.tanh(point.lengthDifference / sd)),
    preferences,
    ridge,
  );
  return { bias, length };
}

function newton(x: readonly number[], p: readonly number[], ridge: number): [number, number] {
  const flat = x.every((value) => value === 0);
  let [bias, slope] = [0, 0];
  for (let iteration = 0; iteration < 100; iteration++) {
    let [g0, g1, h00, h01, h11] = [ridge * bias, ridge * slope, ridge, 0, ridge];
    for (let i = 0; i < x.length; i++) {
      const xi = x[i] as number;
      const q = 1 / (1 + Math.exp(-(bias + slope * xi)));
      const [residual, weight] = [q - (p[i] as number), q * (1 - q)];
      g0 += residual;
      g1 += residual * xi;
      h00 += weight;
      h01 += weight * xi;
      h11 += weight * xi * xi;
    }
    const determinant = h00 * h11 - h01 * h01;
    const [stepBias, stepSlope] =
      flat || !(determinant > 0)
        ? [g0 / h00, 0]
        : [(h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant];
    const scale = Math.min(1, 4 / Math.max(Math.abs(stepBias), Math.abs(stepSlope), 1e-300));
    bias -= scale * stepBias;
    slope -= scale * stepSlope;
    if (Math.max(Math.abs(stepBias), Math.abs(stepSlope)) < 1e-12) break;
  }
  return [bias, slope];
}

/** Win rates in percent. */
export interface LengthControlled {
  readonly n: number;
  readonly clusters: number;
  readonly winRate: number | null;
  readonly winRateInterval: Interval | null;
  readonly lengthControlled: number | null;
  readonly lengthControlledInterval: Interval | null;
  readonly lengthCoefficient: number | null;
}

/**
 * Win rate, raw and at equal length, each with the percentile interval of a bootstrap over clusters in which the model is
 * refitted every time: holding the coefficients fixed makes the error of AlpacaEval's published rates two to six times too
 * small. Intervals are null with fewer than 10 clusters.
 */
export function lengthControlledWinRate(
  points: readonly LengthPoint[],
  options: { readonly seed: number; readonly resamples: number; readonly level: number; readonly ridge?: number },
): LengthControlled {
  const ridge = options.ridge ?? 0.01;
  const sorted = [...points].sort(
    (a, b) => compare(a.cluster, b.cluster) || a.lengthDifference - b.lengthDifference || a.preference - b.preference,
  );
  const { cluster, count } = numberClusters(sorted.map((point) => point.cluster));
  const summary = { n: points.length, clusters: count };
  if (points.length < 2) {
    const winRate = points.length === 0 ? null : 100 * rateOf(points);
    return {
      ...summary,
      winRate,
      winRateInterval: null,
      lengthControlled: null,
      lengthControlledInterval: null,
      lengthCoefficient: null,
    };
  }
  const fit = fitLengthModel(sorted, ridge);
  const members: LengthPoint[][] = Array.from({ length: count }, () => []);
  for (const [i, point] of sorted.entries()) members[cluster[i] as number]?.push(point);
  const raw: number[] = [];
  const controlled: number[] = [];
  if (count >= 10) {
    const indices = resampleIndices(count, options.resamples, options.seed);
    for (let resample = 0; resample < options.resamples; resample++) {
      const drawn: LengthPoint[] = [];
      for (let i = 0; i < count; i++) drawn.push(...(members[indices[resample * count + i] as number] ?? []));
      raw.push(100 * rateOf(drawn));
      controlled.push(100 * atEqualLength(fitLengthModel(drawn, ridge)));
    }
  }
  return {
    ...summary,
    winRate: 100 * rateOf(sorted),
    winRateInterval: intervalOf(raw, options.level),
    lengthControlled: 100 * atEqualLength(fit),
    lengthControlledInterval: intervalOf(controlled, options.level),
    lengthCoefficient: fit.length,
  };
}

function rateOf(points: readonly LengthPoint[]): number {
  return points.reduce((sum, point) => sum + point.preference, 0) / points.length;
}

function atEqualLength(fit: LengthFit): number {
  return 1 / (1 + Math.exp(-fit.bias));
}

function intervalOf(values: readonly number[], level: number): Interval | null {
  return values.length === 0
    ? null
    : percentileInterval(
        [...values].sort((a, b) => a - b),
        level,
      );
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
