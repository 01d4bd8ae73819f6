import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Random } from '../../src/kit/index.ts';
import * as stats from '../../src/stats/index.ts';

const rate = fc.constantFrom(0, 1);
const table = fc.record({
  candidateOnly: fc.nat(80),
  baselineOnly: fc.nat(80),
  concordant: fc.integer({ min: 1, max: 400 }),
});

describe('distributions', () => {
  it('quantiles undo their distribution functions', () => {
    fc.assert(
      fc.property(fc.double({ min: 1e-9, max: 1 - 1e-9, noNaN: true }), fc.integer({ min: 1, max: 500 }), (p, df) => {
        expect(stats.normalCdf(stats.normalQuantile(p))).toBeCloseTo(p, 12);
        expect(stats.studentCdf(stats.studentQuantile(p, df), df)).toBeCloseTo(p, 10);
      }),
    );
  });
  it('binomial masses add up to one and to the distribution function', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 60 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.nat(60),
        (n, p, k) => {
          const masses = Array.from({ length: n + 1 }, (_, i) => stats.binomialMass(i, n, p));
          expect(masses.reduce((sum, value) => sum + value, 0)).toBeCloseTo(1, 10);
          expect(stats.binomialCdf(k, n, p)).toBeCloseTo(
            masses.slice(0, k + 1).reduce((sum, value) => sum + value, 0),
            10,
          );
        },
      ),
    );
  });
});

describe('Tango', () => {
  it('gives intervals that hold the estimate, turn with the sides, and agree with the statistic', () => {
    fc.assert(
      fc.property(table, ({ candidateOnly, baselineOnly, concordant }) => {
        const n = candidateOnly + baselineOnly + concordant;
        const interval = stats.tangoInterval({ n, candidateOnly, baselineOnly }, 1.96);
        const turned = stats.tangoInterval({ n, candidateOnly: baselineOnly, baselineOnly: candidateOnly }, 1.96);
        const difference = (candidateOnly - baselineOnly) / n;
        expect(interval.low).toBeLessThanOrEqual(difference);
        expect(interval.high).toBeGreaterThanOrEqual(difference);
        expect(interval.low).toBeCloseTo(-turned.high, 9);
        expect(stats.tangoStatistic({ n, candidateOnly, baselineOnly }, interval.low)).toBeCloseTo(1.96, 5);
      }),
    );
  });
});

describe('Wilson and clustered rates', () => {
  it('stay in [0, 1], hold the rate and never collapse to a point', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(rate, fc.nat(8)), { minLength: 2, maxLength: 80 }), (rows) => {
        const { cluster, count } = stats.numberClusters(rows.map(([, key]) => `c${key}`));
        const values = rows.map(([value]) => value);
        const { low, high } = stats.rateInterval(values, cluster, count, 0.95);
        const mean = values.reduce<number>((sum, value) => sum + value, 0) / values.length;
        expect(low).toBeGreaterThanOrEqual(0);
        expect(high).toBeLessThanOrEqual(1);
        expect(low).toBeLessThanOrEqual(mean + 1e-12);
        expect(high).toBeGreaterThanOrEqual(mean - 1e-12);
        expect(high - low).toBeGreaterThan(0);
      }),
    );
  });
  it('counts clusters, not cases, where all cases passed', () => {
    const cluster = Array.from({ length: 300 }, (_, i) => i % 30);
    const { low } = stats.rateInterval(
      Array.from({ length: 300 }, () => 1),
      cluster,
      30,
      0.95,
    );
    const quantile = stats.studentQuantile(0.975, 29);
    expect(low).toBeCloseTo(stats.wilsonInterval(1, 30, quantile).low, 12);
  });
  it('covers the truth in 93 to 98 % of clustered samples', () => {
    const random = new Random(11, 'coverage');
    const [runs, clusters, size, truth] = [1000, 40, 5, 0.8];
    let covered = 0;
    for (let run = 0; run < runs; run++) {
      const values: number[] = [];
      const cluster: number[] = [];
      for (let c = 0; c < clusters; c++) {
        const shared = random.chance(truth) ? 1 : 0;
        for (let i = 0; i < size; i++) {
          values.push(random.chance(0.5) ? shared : random.chance(truth) ? 1 : 0);
          cluster.push(c);
        }
      }
      const { low, high } = stats.rateInterval(values, cluster, clusters, 0.95);
      if (low <= truth && truth <= high) covered++;
    }
    expect(covered / runs).toBeGreaterThan(0.93);
    expect(covered / runs).toBeLessThan(0.98);
  });
});

describe('Holm', () => {
  it('lies between the raw p and Bonferroni, keeps the order, and refuses NaN', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: 20 }), (p) => {
        const adjusted = stats.holm(p);
        p.forEach((value, i) => {
          expect(adjusted[i]).toBeGreaterThanOrEqual(value);
          expect(adjusted[i]).toBeLessThanOrEqual(Math.min(1, value * p.length) + 1e-15);
          p.forEach((other, j) =>
            expect(value <= other || (adjusted[i] as number) >= (adjusted[j] as number)).toBe(true),
          );
        });
      }),
    );
    expect(stats.holm([0.01, Number.NaN])).toEqual([Number.NaN, Number.NaN]);
  });
});

describe('paired differences', () => {
  const sample = fc.array(fc.tuple(rate, rate, fc.nat(14)), { minLength: 12, maxLength: 90 });
  it('turn with the sides', () => {
    fc.assert(
      fc.property(sample, (rows) => {
        const clusters = rows.map(([, , key]) => `c${key}`);
        const [baseline, candidate] = [rows.map(([value]) => value), rows.map(([, value]) => value)];
        const resampler = new stats.Resampler(3, 400);
        const there = stats.pairedDifference({ baseline, candidate, clusters }, 0.9, resampler);
        const back = stats.pairedDifference({ baseline: candidate, candidate: baseline, clusters }, 0.9, resampler);
        expect(there.difference).toBeCloseTo(-back.difference, 12);
        for (const bound of [0, 0.05]) expect(there.greater(bound).p).toBeCloseTo(back.less(-bound).p, 9);
      }),
      { numRuns: 40 },
    );
  });
  it('do not depend on the order of pairs', () => {
    const random = new Random(5, 'order');
    const rows = Array.from({ length: 120 }, (_, i) => ({ b: random.next(), c: random.next(), k: `k${i % 17}` }));
    const ask = (list: typeof rows) => {
      const result = stats.pairedDifference(
        { baseline: list.map((r) => r.b), candidate: list.map((r) => r.c), clusters: list.map((r) => r.k) },
        0.9,
        new stats.Resampler(1, 500),
      );
      return [result.difference, result.interval?.low ?? 0, result.interval?.high ?? 0, result.greater(0).p, result.sd];
    };
    ask(random.shuffle(rows)).forEach((value, i) => expect(value).toBeCloseTo(ask(rows)[i] as number, 12));
  });
  it('give p = 1 for equal inputs', () => {
    for (const clusters of [
      Array.from({ length: 60 }, (_, i) => `${i}`),
      Array.from({ length: 60 }, (_, i) => `${i % 12}`),
    ]) {
      for (const value of [1, 0.37]) {
        const values = Array.from({ length: 60 }, () => value);
        const result = stats.pairedDifference(
          { baseline: values, candidate: values, clusters },
          0.9,
          new stats.Resampler(1, 300),
        );
        expect(result.greater(0).p).toBe(1);
        expect(result.less(0).p).toBe(1);
      }
    }
  });
  it('answer by sign flips, not by a standard error of zero, when all differences are equal', () => {
    const clusters = Array.from({ length: 40 }, (_, i) => `${i % 10}`);
    const baseline = Array.from({ length: 40 }, (_, i) => i / 100);
    const candidate = baseline.map((value) => value + 0.1);
    const result = stats.pairedDifference({ baseline, candidate, clusters }, 0.9, new stats.Resampler(1, 300));
    expect(result.greater(0)).toEqual({ p: 2 ** -10, test: 'sign-flip' });
    expect(result.less(0).p).toBe(1);
  });
});

describe('length control', () => {
  const points = (candidateBias: number, lengthPull: number, seed: number): stats.LengthPoint[] => {
    const random = new Random(seed, 'length');
    return Array.from({ length: 300 }, (_, i) => {
      const lengthDifference = Math.round(40 * (random.normal() + 1));
      const preference = random.chance(
        1 / (1 + Math.exp(-(candidateBias + lengthPull * Math.tanh(lengthDifference / 40)))),
      )
        ? 1
        : 0;
      return { preference, lengthDifference, cluster: `c${i % 60}` };
    });
  };
  it('takes back a win that is only length', () => {
    const result = stats.lengthControlledWinRate(points(0, 2, 4), { seed: 1, resamples: 300, level: 0.95 });
    expect(result.winRateInterval?.low).toBeGreaterThan(55);
    expect(result.lengthControlledInterval?.low).toBeLessThan(50);
    expect(result.lengthControlledInterval?.high).toBeGreaterThan(50);
    expect(result.lengthCoefficient).toBeGreaterThan(1);
  });
  it('leaves a win alone where length plays no part', () => {
    const result = stats.lengthControlledWinRate(points(1.2, 0, 9), { seed: 1, resamples: 300, level: 0.95 });
    expect(result.lengthControlledInterval?.low).toBeGreaterThan(55);
    expect(Math.abs((result.lengthControlled as number) - (result.winRate as number))).toBeLessThan(8);
  });
  it('stays finite when everything is won, and says nothing about length when lengths are equal', () => {
    const won = Array.from({ length: 40 }, (_, i) => ({ preference: 1, lengthDifference: i, cluster: `${i}` }));
    const equal = won.map((point) => ({ ...point, lengthDifference: 7 }));
    expect(
      stats.lengthControlledWinRate(won, { seed: 1, resamples: 50, level: 0.95 }).lengthControlled,
    ).toBeGreaterThan(95);
    expect(stats.lengthControlledWinRate(equal, { seed: 1, resamples: 50, level: 0.95 }).lengthCoefficient).toBeNull();
    expect(stats.lengthControlledWinRate([], { seed: 1, resamples: 50, level: 0.95 }).winRate).toBeNull();
  });
  it('does not depend on the order of comparisons', () => {
    const list = points(0.3, 1, 2);
    const options = { seed: 1, resamples: 100, level: 0.95 };
    expect(stats.lengthControlledWinRate(new Random(1).shuffle(list), options)).toEqual(
      stats.lengthControlledWinRate(list, options),
    );
  });
  it('counts code points', () => expect(stats.codePointLength('a😀é')).toBe(3));
});
