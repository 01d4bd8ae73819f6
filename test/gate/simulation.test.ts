import { describe, expect, it } from 'vitest';
import { Random } from '../../src/kit/index.ts';
import { decide } from '../../src/gate/index.ts';
import type { VerdictKind } from '../../src/contracts/index.ts';
import { baseline, candidate, policyOf, simulated } from './rows.ts';

const usual = policyOf({ bootstrap: { resamples: 400, seed: 7 } });

/** Shares of verdicts over seeded replicates: one primary metric, one critical guard of 5 points, two watched metrics. */
function shares(
  name: string,
  plan: { runs: number; n: number; clusters: number | null; gain: number; guard: number },
  policy = usual,
): Record<VerdictKind, number> {
  const counts: Record<VerdictKind, number> = { PROMOTE: 0, REJECT: 0, INCONCLUSIVE: 0, INVALID: 0 };
  for (let i = 0; i < plan.runs; i++) {
    const random = new Random(i, name);
    const { n, clusters } = plan;
    const metric = (path: string, gain: number, discordance: number) =>
      simulated(random, path, { n, clusters, rate: 0.7, gain, discordance, sharing: 0.5 });
    const comparisons = [
      metric('tickets/all_five', plan.gain, 0.2),
      metric('tickets/recall', plan.guard, Math.max(0.05, Math.abs(plan.guard))),
      metric('tickets/category', 0, 0.05),
      metric('tickets/invented', 0, 0.05),
    ];
    counts[decide({ comparisons, policy, baseline, candidate }).kind] += 1 / plan.runs;
  }
  return counts;
}

describe('measured error rates of the gate', () => {
  it('promotes a no-better model in at most 6.5 % of independent samples', () => {
    expect(shares('iid', { runs: 400, n: 300, clusters: null, gain: 0, guard: 0 }).PROMOTE).toBeLessThanOrEqual(0.065);
  });
  it('promotes a no-better model in at most 6.5 % of clustered samples, even where no guard helps', () => {
    const alone = policyOf({ guards: { critical: [], watch: [] }, bootstrap: { resamples: 400, seed: 7 } });
    const many = shares('clustered', { runs: 300, n: 300, clusters: 60, gain: 0, guard: 0 }, alone).PROMOTE;
    const few = shares('few', { runs: 300, n: 120, clusters: 15, gain: 0, guard: 0 }, alone).PROMOTE;
    for (const share of [many, few]) {
      expect(share).toBeLessThanOrEqual(0.065);
      expect(share).toBeGreaterThan(0.01);
    }
  });
  it('promotes a gain of 10 points with 300 cases mostly', () => {
    expect(shares('gain', { runs: 100, n: 300, clusters: null, gain: 0.1, guard: 0 }).PROMOTE).toBeGreaterThan(0.85);
    expect(shares('gain', { runs: 50, n: 600, clusters: 200, gain: 0.1, guard: 0 }).PROMOTE).toBeGreaterThan(0.85);
  });
  it('hardly ever promotes a gain that harms a critical guard, and rejects great harm', () => {
    expect(shares('harm', { runs: 100, n: 300, clusters: null, gain: 0.1, guard: -0.05 }).PROMOTE).toBeLessThanOrEqual(
      0.065,
    );
    expect(shares('harm', { runs: 40, n: 300, clusters: null, gain: 0.1, guard: -0.15 }).REJECT).toBeGreaterThan(0.95);
    expect(shares('harm', { runs: 40, n: 300, clusters: 60, gain: 0.1, guard: -0.3 }).REJECT).toBeGreaterThan(0.95);
  });
});
