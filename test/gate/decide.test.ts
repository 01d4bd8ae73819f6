import { describe, expect, it } from 'vitest';
import { canonicalJson, Random } from '../../src/kit/index.ts';
import { decide, exitCodeOf } from '../../src/gate/index.ts';
import type { PairedMetric, VerdictKind } from '../../src/contracts/index.ts';
import { baseline, candidate, comparisonsOf, paired, policyOf } from './rows.ts';

const strong = { lost: 10, gained: 45 };

function verdict(comparisons: readonly PairedMetric[], policy = policyOf()) {
  return decide({ comparisons, policy, baseline, candidate });
}

describe('decision table', () => {
  const table: [string, VerdictKind, PairedMetric[], ReturnType<typeof policyOf>?][] = [
    ['a clear gain and guards that hold', 'PROMOTE', comparisonsOf({ all_five: strong })],
    ['the same in 60 clusters', 'PROMOTE', comparisonsOf({ all_five: strong }, { clusters: 60 })],
    ['equal inputs', 'INCONCLUSIVE', comparisonsOf({}, { lost: 0, gained: 0 })],
    ['equal inputs in clusters', 'INCONCLUSIVE', comparisonsOf({}, { lost: 0, gained: 0, clusters: 30 })],
    ['a gain too small to show', 'INCONCLUSIVE', comparisonsOf({ all_five: { lost: 10, gained: 16 } })],
    [
      'a clear gain, but a guard with too few cases to be sure',
      'INCONCLUSIVE',
      comparisonsOf({ all_five: strong, recall: { n: 40, lost: 2, gained: 1 } }),
    ],
    ['a clear loss on the primary metric', 'REJECT', comparisonsOf({ all_five: { lost: 45, gained: 10 } })],
    [
      'a clear gain bought with a critical guard',
      'REJECT',
      comparisonsOf({ all_five: strong, recall: { lost: 40, gained: 2 } }),
    ],
    [
      'a clear gain bought with a critical guard, in clusters',
      'REJECT',
      comparisonsOf({ all_five: strong, recall: { lost: 60, gained: 2 } }, { clusters: 60 }),
    ],
    [
      'a clear gain bought with a watched metric',
      'REJECT',
      comparisonsOf({ all_five: strong, category: { lost: 40, gained: 5 } }),
    ],
    [
      'a clear gain bought with a watched metric where lower is better',
      'REJECT',
      comparisonsOf({ all_five: strong, invented: { lost: 25, gained: 1 } }),
    ],
    [
      'a lower-is-better metric that improves',
      'PROMOTE',
      comparisonsOf({ all_five: strong, invented: { lost: 1, gained: 25 } }),
    ],
    [
      'a gain of +10 that is excluded',
      'REJECT',
      comparisonsOf({ all_five: { lost: 10, gained: 14 } }),
      policyOf({ primary: { metric: 'tickets/all_five', minEffect: 0.1 } }),
    ],
    [
      'a gain over +5 shown',
      'PROMOTE',
      comparisonsOf({ all_five: { lost: 5, gained: 50 } }),
      policyOf({ primary: { metric: 'tickets/all_five', minEffect: 0.05 } }),
    ],
    [
      'a gain, but not over +8',
      'INCONCLUSIVE',
      comparisonsOf({ all_five: { lost: 10, gained: 40 } }),
      policyOf({ primary: { metric: 'tickets/all_five', minEffect: 0.08 } }),
    ],
    ['9 cases', 'INVALID', comparisonsOf({ recall: { n: 9, lost: 0, gained: 0 } })],
    ['9 clusters', 'INVALID', comparisonsOf({ all_five: strong }, { clusters: 9 })],
    ['a metric of the policy that nobody measured', 'INVALID', comparisonsOf({}).slice(0, 3)],
  ];
  it.each(table)('%s: %s', (_, kind, comparisons, policy) => {
    const result = verdict(comparisons, policy);
    expect(result.headline).toMatch(new RegExp(`^${kind} — `));
    expect(result.kind).toBe(kind);
  });
  it('reads clusters as cases where the policy says so', () => {
    expect(verdict(comparisonsOf({ all_five: strong }, { clusters: 9 }), policyOf({ cluster: 'case' })).kind).toBe(
      'PROMOTE',
    );
  });
  it('rejects a guard shown beyond its margin even where the harm test, corrected for many metrics, is silent', () => {
    const policy = policyOf({
      guards: {
        critical: [{ metric: 'tickets/recall', margin: 0.001 }],
        watch: [{ metric: 'tickets/category' }, { metric: 'tickets/invented' }],
      },
    });
    const result = verdict(comparisonsOf({ all_five: strong, recall: { lost: 12, gained: 4 } }), policy);
    expect(result.kind).toBe('REJECT');
    expect(result.rules[1]?.adjustedP).toBeGreaterThan(0.05);
    expect(result.rules[1]?.reason).toContain('shown to lose more than the margin -0.1 points');
  });
  it('maps verdicts to exit codes', () => {
    expect((['PROMOTE', 'REJECT', 'INCONCLUSIVE', 'INVALID'] as const).map(exitCodeOf)).toEqual([0, 1, 3, 4]);
  });
});

describe('broken evidence is INVALID and says why', () => {
  const [first, ...rest] = comparisonsOf({ all_five: strong }) as [PairedMetric, ...PairedMetric[]];
  const broken: [string, PairedMetric, RegExp][] = [
    [
      '14 of 300 outputs missing',
      { ...first, missing: { baseline: 0, candidate: 14 } },
      /14 of 300 cases of tickets\/all_five are missing in the candidate run \(4\.7 %, more than 2 %\)/,
    ],
    ['the baseline lacks outputs', { ...first, missing: { baseline: 7, candidate: 0 } }, /baseline run/],
    ['a case twice', { ...first, pairs: [...first.pairs, first.pairs[0] as (typeof first.pairs)[number]] }, /twice/],
    [
      'NaN',
      { ...first, pairs: first.pairs.map((pair, i) => (i === 3 ? { ...pair, candidate: Number.NaN } : pair)) },
      /value NaN in case case-0003/,
    ],
    [
      'a rate of 2',
      { ...first, pairs: first.pairs.map((pair, i) => (i === 3 ? { ...pair, candidate: 2 } : pair)) },
      /value 2/,
    ],
  ];
  it.each(broken)('%s', (_, comparison, reason) => {
    const result = verdict([comparison, ...rest]);
    expect(result.kind).toBe('INVALID');
    expect(result.headline).toMatch(reason);
    expect(result.casesNeeded).toBeNull();
  });
  it('6 of 300 missing outputs are within 2 %', () => {
    expect(verdict([{ ...first, missing: { baseline: 0, candidate: 6 } }, ...rest]).kind).toBe('PROMOTE');
  });
  it('problems of the runs themselves', () => {
    const result = decide({
      comparisons: [],
      policy: policyOf(),
      baseline,
      candidate,
      problems: ['suite tickets differs between the runs'],
    });
    expect(result.kind).toBe('INVALID');
    expect(result.rules).toHaveLength(1);
    expect(result.headline).toBe('INVALID — suite tickets differs between the runs.');
  });
});

describe('what a verdict says', () => {
  it('gives the numbers of a promotion in one sentence', () => {
    expect(verdict(comparisonsOf({ all_five: strong })).headline).toMatchInlineSnapshot(
      `"PROMOTE — improvement shown: tickets/all_five +11.7 points (90 % CI +7.8 to +15.8, p < 0.001, n = 300, 55 discordant); 1 of 1 critical guards hold (closest: not worse than -5.0 points: tickets/recall +0.0 points (90 % CI -1.8 to +1.8, p < 0.001, n = 300, 8 discordant)); no harm in 4 metrics (Holm)."`,
    );
  });
  it('gives the harm of a rejection', () => {
    expect(
      verdict(comparisonsOf({ all_five: strong, recall: { lost: 40, gained: 2 } }, { clusters: 60 })).headline,
    ).toMatchInlineSnapshot(
      `"REJECT — harm shown: tickets/recall -12.7 points (90 % CI -16.4 to -9.5, p = 0.008 (Holm), n = 300 in 60 clusters, 42 discordant); shown to lose more than the margin -5.0 points: tickets/recall -12.7 points (90 % CI -16.4 to -9.5, p = 0.002, n = 300 in 60 clusters, 42 discordant)."`,
    );
  });
  it('says how many cases an open question needs, scaled to the cases of the suite', () => {
    const result = verdict(comparisonsOf({ all_five: { lost: 10, gained: 16 } }));
    expect(result.casesNeeded).toBeGreaterThan(300);
    expect(result.casesNeeded).toBeLessThan(5000);
    expect(result.headline).toMatchInlineSnapshot(
      `"INCONCLUSIVE — not enough evidence: improvement not shown: tickets/all_five +2.0 points (90 % CI -0.8 to +5.0, p = 0.124, n = 300, 26 discordant); about 1,338 cases of tickets would settle it at 80 % power if what is seen is true (have 300)."`,
    );
    const conditional = verdict(comparisonsOf({ all_five: strong, recall: { n: 40, lost: 1, gained: 1 } }));
    expect(conditional.casesNeeded).toBeGreaterThan(300);
    expect(conditional.headline).toContain('(have 300)');
  });
  it('says nothing about cases where the difference points the wrong way', () => {
    expect(verdict(comparisonsOf({ all_five: { lost: 12, gained: 10 } })).casesNeeded).toBeNull();
  });
  it('says how many cases only one run has', () => {
    const [first, ...rest] = comparisonsOf({ all_five: strong }) as [PairedMetric, ...PairedMetric[]];
    const [rule] = verdict([{ ...first, onlyBaseline: ['a'], onlyCandidate: ['a', 'b'] }, ...rest]).rules;
    expect(rule?.reason).toContain('2 cases in one run only left out');
  });
  it('names the tests: by the kind of data, not by the result', () => {
    const plain = verdict(comparisonsOf({ all_five: strong }));
    const clustered = verdict(comparisonsOf({ all_five: strong }, { clusters: 60 }));
    expect(plain.rules.map((rule) => rule.test)).toEqual(['mcnemar-midp', 'tango', 'mcnemar-midp', 'mcnemar-midp']);
    expect(new Set(clustered.rules.map((rule) => rule.test))).toEqual(new Set(['cluster-bootstrap+tango-effective-n']));
  });
  it('turns differences so that positive is better', () => {
    const result = verdict(comparisonsOf({ invented: { lost: 25, gained: 1 } }));
    const rule = result.rules.find(({ metric }) => metric === 'tickets/invented');
    expect(rule?.difference).toBeCloseTo(-24 / 300, 12);
    expect(rule?.candidate as number).toBeGreaterThan(rule?.baseline as number);
  });
  it('gives p = 1 where no pair differs', () => {
    const [primary] = verdict(comparisonsOf({}, { lost: 0, gained: 0 })).rules;
    expect(primary).toMatchObject({ pValue: 1, discordant: 0, difference: 0 });
  });
});

describe('absolute bounds', () => {
  const withFloor = (absolute: number) =>
    policyOf({ guards: { critical: [{ metric: 'tickets/recall', margin: 0.05, absolute }], watch: [] } });
  const recall = (right: number) => comparisonsOf({ all_five: strong, recall: { lost: 0, gained: 0, both: right } });
  it('pass when the whole interval holds', () => expect(verdict(recall(290), withFloor(0.9)).kind).toBe('PROMOTE'));
  it('stay open when the floor lies inside the interval', () => {
    const result = verdict(recall(275), withFloor(0.9));
    expect(result.kind).toBe('INCONCLUSIVE');
    expect(result.rules[1]?.reason).toContain('the floor 90.0 % is not shown to hold');
    expect(result.casesNeeded).toBeGreaterThan(300);
  });
  it('fail when the whole interval is below', () => expect(verdict(recall(240), withFloor(0.9)).kind).toBe('REJECT'));
  it('are ceilings where lower is better', () => {
    const policy = (absolute: number) =>
      policyOf({ guards: { critical: [{ metric: 'tickets/invented', margin: 0.05, absolute }], watch: [] } });
    const comparisons = comparisonsOf({ all_five: strong, invented: { lost: 0, gained: 0, both: 290 } });
    expect(verdict(comparisons, policy(0.06)).kind).toBe('PROMOTE');
    expect(verdict(comparisons, policy(0.01)).kind).toBe('REJECT');
  });
  it('alone judge a first release, and the headline says so', () => {
    const judge = (right: number, absolute: number) =>
      decide({ comparisons: recall(right), policy: withFloor(absolute), baseline: null, candidate });
    expect(judge(290, 0.9).headline).toMatchInlineSnapshot(
      `"PROMOTE — first release, judged by absolute bounds alone: the floor 90.0 % holds: tickets/recall is 96.7 % (90 % CI 94.5 % to 98.0 %); nothing was compared, because there is no baseline."`,
    );
    expect(judge(240, 0.9).kind).toBe('REJECT');
    expect(judge(275, 0.9).kind).toBe('INCONCLUSIVE');
    expect(decide({ comparisons: recall(290), policy: policyOf(), baseline: null, candidate }).headline).toContain(
      'no absolute bound',
    );
  });
});

describe('means', () => {
  const score = (differences: (i: number) => number): PairedMetric => ({
    ...paired('tickets/all_five', { n: 60, lost: 0, gained: 0 }),
    kind: 'mean',
    pairs: Array.from({ length: 60 }, (_, i) => ({
      case: `c${String(i).padStart(2, '0')}`,
      cluster: `k${i % 20}`,
      baseline: i / 7,
      candidate: i / 7 + differences(i),
    })),
  });
  const policy = policyOf({ guards: { critical: [], watch: [] } });
  it('are promoted on a clear gain', () =>
    expect(verdict([score((i) => 0.5 + (i % 5) / 10)], policy).kind).toBe('PROMOTE'));
  it('with equal differences are answered by sign flips over clusters', () => {
    const [rule] = verdict([score(() => 0.25)], policy).rules;
    expect(rule).toMatchObject({ test: 'sign-flip', pValue: 2 ** -20 });
  });
  it('of noise stay open', () =>
    expect(verdict([score((i) => Math.sin(i * 12.9898))], policy).kind).not.toBe('PROMOTE'));
});

describe('determinism', () => {
  const comparisons = comparisonsOf({ all_five: strong, recall: { lost: 7, gained: 5 } }, { clusters: 37 });
  const mixed = { ...score(), metric: 'tickets/category' };
  function score(): PairedMetric {
    const random = new Random(2, 'mean');
    const base = comparisons[2] as PairedMetric;
    return {
      ...base,
      kind: 'mean',
      pairs: base.pairs.map((pair) => ({ ...pair, baseline: random.next(), candidate: random.next() })),
    };
  }
  const all = [...comparisons.filter(({ metric }) => metric !== 'tickets/category'), mixed];
  it('equal input gives equal bytes', () =>
    expect(canonicalJson(verdict(all))).toBe(canonicalJson(verdict(structuredClone(all)))));
  it('the order of rows and of comparisons does not show', () => {
    const random = new Random(4, 'shuffle');
    const shuffled = random
      .shuffle(all)
      .map((comparison) => ({ ...comparison, pairs: random.shuffle(comparison.pairs) }));
    expect(canonicalJson(verdict(shuffled))).toBe(canonicalJson(verdict(all)));
  });
  it('the policy is digested into the verdict', () => {
    expect(verdict(all).policyDigest).not.toBe(verdict(all, policyOf({ alpha: 0.04 })).policyDigest);
  });
});

it('decides 12 metrics of 600 cases with 2,000 resamples in less than 1.5 seconds', () => {
  const random = new Random(9, 'speed');
  const names = Array.from({ length: 12 }, (_, i) => `tickets/m${i}`);
  const comparisons = names.map((metric): PairedMetric => {
    const base = paired(metric, { n: 600, lost: 20, gained: 20 });
    return {
      ...base,
      kind: 'mean',
      pairs: base.pairs.map((pair) => ({ ...pair, baseline: random.next(), candidate: random.next() })),
    };
  });
  const [primary, ...watch] = names as [string, ...string[]];
  const policy = policyOf({
    primary: { metric: primary, minEffect: 0 },
    guards: { critical: [], watch: watch.map((metric) => ({ metric })) },
    bootstrap: { resamples: 2000, seed: 77 },
  });
  const before = performance.now();
  verdict(comparisons, policy);
  expect(performance.now() - before).toBeLessThan(1500);
});
