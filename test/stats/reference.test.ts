import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Random } from '../../src/kit/index.ts';
import * as stats from '../../src/stats/index.ts';

interface Reference<Case> {
  readonly tolerance: { readonly rel: number; readonly abs: number; readonly tango_abs?: number };
  readonly cases: readonly Case[];
}

function load<Case>(name: string): Reference<Case> {
  return JSON.parse(
    readFileSync(new URL(`../../fixtures/reference/gate/${name}.json`, import.meta.url), 'utf8'),
  ) as Reference<Case>;
}

type Expected = Readonly<Record<string, number | null | string | readonly number[] | undefined>>;

/** What is wrong with a value, null when it lies within the tolerance; fields that a case does not give are fine. */
function fault(
  seen: number | null,
  wanted: unknown,
  tolerance: { rel: number; abs: number },
  what: string,
): string | null {
  if (wanted === undefined) return null;
  if (typeof wanted !== 'number' || seen === null)
    return seen === wanted ? null : `${what}: ${seen} for ${JSON.stringify(wanted)}`;
  const allowed = tolerance.abs + tolerance.rel * Math.abs(wanted);
  return Math.abs(seen - wanted) <= allowed ? null : `${what}: ${seen} for ${wanted}`;
}

describe('distributions agree with scipy to 1e-9 relative, far tails included', () => {
  const { cases, tolerance } = load<{ id: string; fn: string; args: number[]; expect: number }>('primitives');
  const call = (
    fn: string,
    [first = Number.NaN, second = Number.NaN, third = Number.NaN]: readonly number[],
  ): number | null => {
    switch (fn) {
      case 'norm_ppf':
        return stats.normalQuantile(first);
      case 'norm_cdf':
        return stats.normalCdf(first);
      case 't_cdf':
        return stats.studentCdf(first, second);
      case 't_sf':
        return stats.studentUpper(first, second);
      case 't_ppf':
        return stats.studentQuantile(first, second);
      case 'beta_cdf':
        return stats.incompleteBeta(first, 1 - first, second, third).lower;
      case 'beta_ppf':
        return stats.betaQuantile(first, 1 - first, second, third).x;
      case 'binom_cdf':
        return stats.binomialCdf(first, second, third);
      case 'binom_pmf':
        return stats.binomialMass(first, second, third);
      default:
        return null;
    }
  };
  it.each(cases)('$id $fn($args)', ({ fn, args, expect: wanted, id }) => {
    expect(fault(call(fn, args), wanted, tolerance, id)).toBeNull();
  });
});

describe('McNemar and Tango agree with statsmodels and root finding', () => {
  const { cases, tolerance } = load<{
    id: string;
    args: { candidate_only: number; baseline_only: number; both: number; neither: number };
    expect: Expected;
  }>('mcnemar');
  it.each(cases)('$id $args', ({ args, expect: wanted, id }) => {
    const counts = {
      n: args.both + args.neither + args.candidate_only + args.baseline_only,
      candidateOnly: args.candidate_only,
      baselineOnly: args.baseline_only,
    };
    const exact = stats.mcNemar(args.candidate_only, args.baseline_only);
    expect(exact.discordant).toBe(wanted['discordant']);
    expect(fault(exact.exact, wanted['exact_p'], tolerance, `${id} exact`)).toBeNull();
    expect(fault(exact.midP, wanted['midp_p'], tolerance, `${id} mid-p`)).toBeNull();
    expect(fault(exact.exactGreater, wanted['exact_p_greater'], tolerance, `${id} exact greater`)).toBeNull();
    expect(fault(exact.midPGreater, wanted['midp_p_greater'], tolerance, `${id} mid-p greater`)).toBeNull();
    const interval = stats.tangoInterval(counts, stats.normalQuantile(0.975));
    const loose = { rel: 0, abs: tolerance.tango_abs ?? 0 };
    expect(fault(interval.low, (wanted['tango_ci95'] as number[])[0], loose, `${id} Tango low`)).toBeNull();
    expect(fault(interval.high, (wanted['tango_ci95'] as number[])[1], loose, `${id} Tango high`)).toBeNull();
    for (const margin of [0.02, 0.05]) {
      expect(
        fault(
          stats.normalUpper(stats.tangoStatistic(counts, -margin)),
          wanted[`tango_noninf_p_margin_${margin}`],
          loose,
          `${id} margin ${margin}`,
        ),
      ).toBeNull();
    }
  });
});

describe('Wilson intervals agree with statsmodels', () => {
  const { cases, tolerance } = load<{
    id: string;
    args: { successes: number; n: number; alpha: number };
    expect: { wilson: [number, number] };
  }>('proportions');
  it.each(cases)('$id $args', ({ args, expect: wanted, id }) => {
    const interval = stats.wilsonInterval(args.successes / args.n, args.n, stats.normalQuantile(1 - args.alpha / 2));
    expect(fault(interval.low, wanted.wilson[0], tolerance, `${id} low`)).toBeNull();
    expect(fault(interval.high, wanted.wilson[1], tolerance, `${id} high`)).toBeNull();
  });
});

describe('paired means agree with scipy and with cluster-robust OLS', () => {
  const { cases, tolerance } = load<{
    id: string;
    args: { a: (number | null)[]; b: number[]; margin: number; clusters?: number[] };
    expect: Expected;
  }>('paired_mean');
  const complete = cases.filter(({ args }) => args.a.every((value) => value !== null));
  // The one case with a missing value belongs to the gate, which excludes and counts it: test/gate/compare.test.ts.
  it('has one case with a missing value', () => expect(cases.length - complete.length).toBe(1));
  it.each(complete)('$id', ({ args, expect: wanted, id }) => {
    const differences = args.b.map((value, i) => value - (args.a[i] as number));
    const plain = stats.pairedMean(differences);
    const statuses: Record<string, string> = {
      ok: 'ok',
      'zero-variance': 'degenerate_zero_variance',
      insufficient: 'insufficient',
    };
    expect(statuses[plain.status]).toBe(wanted['status']);
    expect(fault(plain.mean, wanted['mean_diff'], tolerance, `${id} mean`)).toBeNull();
    expect(fault(plain.standardError, wanted['se'], tolerance, `${id} se`)).toBeNull();
    if (plain.status !== 'ok' || plain.standardError === null) return;
    const df = plain.n - 1;
    const interval = stats.meanInterval(plain.mean, plain.standardError, df, 0.95);
    expect(fault(plain.mean / plain.standardError, wanted['t'], tolerance, `${id} t`)).toBeNull();
    expect(
      fault(stats.meanGreaterP(plain.mean, plain.standardError, df), wanted['p_greater'], tolerance, `${id} p`),
    ).toBeNull();
    expect(
      fault(
        2 * stats.meanGreaterP(Math.abs(plain.mean), plain.standardError, df),
        wanted['p_two_sided'],
        tolerance,
        `${id} two-sided`,
      ),
    ).toBeNull();
    expect(
      fault(
        stats.meanGreaterP(plain.mean, plain.standardError, df, -args.margin),
        wanted['p_noninferior'],
        tolerance,
        `${id} margin`,
      ),
    ).toBeNull();
    expect(fault(interval.low, (wanted['ci95'] as number[])[0], tolerance, `${id} low`)).toBeNull();
    expect(fault(interval.high, (wanted['ci95'] as number[])[1], tolerance, `${id} high`)).toBeNull();
    if (wanted['cluster_se_cr1'] === undefined) return;
    const clustered = stats.pairedMean(differences, args.clusters);
    expect(clustered.clusters).toBe(wanted['n_clusters']);
    expect(fault(clustered.clusterErrorPlain, wanted['cluster_se_cr0'], tolerance, `${id} CR0`)).toBeNull();
    expect(fault(clustered.clusterError, wanted['cluster_se_cr1'], tolerance, `${id} CR1`)).toBeNull();
    const error = clustered.clusterError as number;
    const robust = stats.meanInterval(clustered.mean, error, clustered.clusters - 1, 0.95);
    expect(
      fault(
        2 * stats.meanGreaterP(Math.abs(clustered.mean), error, clustered.clusters - 1),
        wanted['cluster_p_two_sided'],
        tolerance,
        `${id} cluster p`,
      ),
    ).toBeNull();
    expect(fault(robust.low, (wanted['cluster_ci95'] as number[])[0], tolerance, `${id} cluster low`)).toBeNull();
    expect(fault(robust.high, (wanted['cluster_ci95'] as number[])[1], tolerance, `${id} cluster high`)).toBeNull();
  });
});

describe('percentile bootstrap agrees with scipy on given resamples', () => {
  const { cases, tolerance } = load<{
    id: string;
    args: { x: number[]; resample_indices: string[] };
    expect: { percentile: [number, number] };
  }>('bootstrap');
  it.each(cases)('$id', ({ args, expect: wanted, id }) => {
    const { x } = args;
    const indices = Uint32Array.from(
      args.resample_indices.flatMap((row) =>
        Array.from(row).map((letter) => letter.charCodeAt(0) - (letter <= 'Z' ? 65 : 71)),
      ),
    );
    const own = x.map((_, i) => i);
    const means = stats.bootstrapMeans(stats.clusterSums(x, own, x.length), indices);
    const interval = stats.percentileInterval(means, 0.95);
    expect(means.length).toBe(args.resample_indices.length);
    expect(fault(interval.low, wanted.percentile[0], tolerance, `${id} low`)).toBeNull();
    expect(fault(interval.high, wanted.percentile[1], tolerance, `${id} high`)).toBeNull();
  });
});

describe('Holm agrees with statsmodels', () => {
  const { cases, tolerance } = load<{
    id: string;
    args: { p: number[]; alpha: number };
    expect: { holm: { adjusted: number[]; reject: boolean[] } };
  }>('multiplicity');
  it.each(cases)('$id', ({ args, expect: wanted, id }) => {
    const adjusted = stats.holm(args.p);
    adjusted.forEach((value, i) => expect(fault(value, wanted.holm.adjusted[i], tolerance, `${id} [${i}]`)).toBeNull());
    expect(adjusted.map((value) => value <= args.alpha)).toEqual(wanted.holm.reject);
  });
});

describe('sample sizes agree with the normal formulas', () => {
  const { cases, tolerance } = load<{
    id: string;
    args: { n: number; sd_diff: number; delta: number; alpha: number; power: number };
    expect: Expected;
  }>('power');
  it.each(cases)('$id', ({ args, expect: wanted, id }) => {
    const { sd_diff: sd, alpha, power, n, delta } = args;
    expect(
      fault(
        stats.detectableEffect(sd, n, power, { alpha, sides: 2 }),
        wanted['mde_two_sided'],
        tolerance,
        `${id} two-sided`,
      ),
    ).toBeNull();
    expect(
      fault(
        stats.detectableEffect(sd, n, power, { alpha, sides: 1 }),
        wanted['mde_one_sided'],
        tolerance,
        `${id} one-sided`,
      ),
    ).toBeNull();
    expect(
      fault(
        stats.pairsNeeded(sd, delta, power, { alpha, sides: 2 }),
        wanted['n_required_two_sided'],
        tolerance,
        `${id} n`,
      ),
    ).toBeNull();
    expect(
      fault(
        stats.powerOf(sd, delta, n, { alpha, sides: 2 }),
        wanted['power_normal_two_sided'],
        tolerance,
        `${id} power`,
      ),
    ).toBeNull();
  });
});

describe('exact sign flips agree with enumeration', () => {
  const { cases, tolerance } = load<{ id: string; args: { d: number[] }; expect: { signflip_greater: number } }>(
    'permutation',
  );
  it.each(cases)('$id', ({ args, expect: wanted, id }) =>
    expect(fault(stats.signFlipGreaterP(args.d), wanted.signflip_greater, tolerance, id)).toBeNull(),
  );
});

describe('length control finds the optimum of the minimal AlpacaEval 2 model', () => {
  // The objective is convex: where its gradient vanishes, and only there, is the optimum.
  const gradient = (points: readonly stats.LengthPoint[], bias: number, length: number): [number, number] => {
    const differences = points.map(({ lengthDifference }) => lengthDifference);
    const mean = differences.reduce((sum, value) => sum + value, 0) / points.length;
    const sd = Math.sqrt(differences.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (points.length - 1));
    const total: [number, number] = [0, 0];
    for (const { preference, lengthDifference } of points) {
      const x = Math.tanh(lengthDifference / sd);
      const residual = preference - 1 / (1 + Math.exp(-(bias + length * x)));
      total[0] += residual;
      total[1] += residual * x;
    }
    return total;
  };
  it.each([1, 2, 3, 4, 5])('made data, seed %i', (seed) => {
    const random = new Random(seed, 'length control');
    const points = Array.from({ length: 300 }, (_, i) => {
      const lengthDifference = Math.round(40 * random.normal());
      const preference = 1 / (1 + Math.exp(-(0.4 + 0.02 * lengthDifference + random.normal())));
      return { preference, lengthDifference, cluster: String(i) };
    });
    const fit = stats.fitLengthModel(points, 0);
    const [bias, length] = gradient(points, fit.bias, fit.length as number);
    expect(Math.abs(bias)).toBeLessThan(1e-8);
    expect(Math.abs(length)).toBeLessThan(1e-8);
    const raw = stats.lengthControlledWinRate(points, { seed: 1, resamples: 200, level: 0.95 });
    expect(raw.winRate as number).toBeCloseTo(
      (100 * points.reduce((sum, { preference }) => sum + preference, 0)) / 300,
      9,
    );
  });
});
