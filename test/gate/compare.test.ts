import { describe, expect, it } from 'vitest';
import type { MetricDefinition, PairedMetric, Row } from '../../src/contracts/index.ts';
import { Random } from '../../src/kit/index.ts';
import {
  compareRuns,
  decide,
  differences,
  estimate,
  evidenceProblems,
  naiveGates,
  pairMetric,
} from '../../src/gate/index.ts';
import { baseline, candidate, paired, policyOf, row, run } from './rows.ts';

const valid: MetricDefinition = { name: 'valid', title: 'Valid', direction: 'higher', kind: 'rate' };
const invented: MetricDefinition = { name: 'invented', title: 'Invented', direction: 'lower', kind: 'rate' };
const cost: MetricDefinition = { name: 'cost', title: 'Cost', direction: 'lower', kind: 'mean' };

const values = (metric: PairedMetric) => metric.pairs.map((pair) => [pair.case, pair.baseline, pair.candidate]);

describe('pairing', () => {
  it('pairs by digest, lists what only one run has, and leaves it out', () => {
    const left = run('base', [
      row('a', { valid: 1 }),
      row('b', { valid: 0 }),
      row('old', { valid: 1 }),
      row('same-name', { valid: 1 }, { caseDigest: 'v1' }),
    ]);
    const right = run('sft', [
      row('b', { valid: 1 }),
      row('a', { valid: 1 }),
      row('new', { valid: 1 }),
      row('same-name', { valid: 1 }, { caseDigest: 'v2' }),
    ]);
    const metric = pairMetric('tickets', valid, left, right);
    expect(values(metric)).toEqual([
      ['a', 1, 1],
      ['b', 0, 1],
    ]);
    expect(metric).toMatchObject({
      metric: 'tickets/valid',
      onlyBaseline: ['old', 'same-name'],
      onlyCandidate: ['new', 'same-name'],
      cases: 2,
    });
  });
  it('counts rows without output as failures of a rate, by direction, and as missing', () => {
    const left = run('base', [row('a', { valid: 1, invented: 0 }), row('b', { valid: 1, invented: 0 })]);
    const right = run('sft', [row('a', null), row('b', { valid: 1, invented: 0 })]);
    expect(values(pairMetric('tickets', valid, left, right))).toEqual([
      ['a', 1, 0],
      ['b', 1, 1],
    ]);
    expect(values(pairMetric('tickets', invented, left, right))).toEqual([
      ['a', 0, 1],
      ['b', 0, 0],
    ]);
    expect(pairMetric('tickets', valid, left, right).missing).toEqual({ baseline: 0, candidate: 1 });
  });
  it('leaves unscored cases out and counts them: missing is not zero', () => {
    const left = run('base', [row('a', { valid: 1 }), row('b', { valid: 1 }), row('c', { valid: 1 })]);
    const right = run('sft', [row('a', { valid: null }), row('b', { valid: 1 }), row('c', { valid: 0 })]);
    const metric = pairMetric('tickets', valid, left, right);
    expect(values(metric)).toEqual([
      ['b', 1, 1],
      ['c', 1, 0],
    ]);
    expect(metric).toMatchObject({ cases: 3, missing: { baseline: 0, candidate: 1 } });
  });
  it('has no failing value for a mean: a row without output is left out and counted', () => {
    const metric = pairMetric(
      'tickets',
      cost,
      run('base', [row('a', { cost: 2 }), row('b', { cost: 3 })]),
      run('sft', [row('a', null), row('b', { cost: 1 })]),
    );
    expect(values(metric)).toEqual([['b', 3, 1]]);
    expect(metric.missing.candidate).toBe(1);
  });
  it('pairs a conditional metric over the cases that have it', () => {
    const left = run('base', [
      row('a', { valid: 1, order_id: 1 }),
      row('b', { valid: 1 }),
      row('c', null),
      row('d', { valid: 1, order_id: 0 }),
    ]);
    const right = run('sft', [row('a', { valid: 1, order_id: 1 }), row('b', null), row('c', null), row('d', null)]);
    const metric = pairMetric('tickets', { ...valid, name: 'order_id' }, left, right);
    // b never has one; nobody knows about c; d has one and got no output.
    expect(values(metric)).toEqual([
      ['a', 1, 1],
      ['d', 0, 0],
    ]);
    expect(metric).toMatchObject({ cases: 2, missing: { baseline: 0, candidate: 1 }, onlyBaseline: [] });
  });
  it('lists a case whose output has the metric in one run only', () => {
    const metric = pairMetric(
      'tickets',
      valid,
      run('base', [row('a', { valid: 1 })]),
      run('sft', [row('a', { other: 1 })]),
    );
    expect(metric).toMatchObject({ pairs: [], onlyBaseline: ['a'], onlyCandidate: [] });
  });
  it('averages epochs, a failed epoch among them', () => {
    const right = run('sft', [row('a', { valid: 1 }), row('a', null, { epoch: 1 })]);
    const left = run('base', [row('a', { valid: 1 }), row('a', { valid: 1 }, { epoch: 1 })]);
    expect(values(pairMetric('tickets', valid, left, right))).toEqual([['a', 1, 0.5]]);
  });
  it('does not depend on the order of rows', () => {
    const random = new Random(3, 'rows');
    const rows = Array.from({ length: 50 }, (_, i) =>
      row(`c${i}`, i % 11 === 0 ? null : { valid: i % 3 === 0 ? 0 : 1 }, { cluster: `k${i % 12}` }),
    );
    const other = rows.map((item, i): Row =>
      i % 7 === 0 ? row(item.case, { valid: null }, { cluster: item.cluster }) : item,
    );
    const once = compareRuns([run('base', rows)], [run('sft', other)], [{ id: 'tickets', metrics: [valid] }]);
    const again = compareRuns(
      [run('base', random.shuffle(rows))],
      [run('sft', random.shuffle(other))],
      [{ id: 'tickets', metrics: [valid] }],
    );
    expect(again).toEqual(once);
  });
  it('compares all metrics of all suites that both sides have', () => {
    const rows = [row('a', { valid: 1, cost: 2 })];
    const compared = compareRuns(
      [run('b1', rows), run('b2', rows, { suite: 'other' })],
      [run('c1', rows), run('c3', rows, { suite: 'third' })],
      [
        { id: 'tickets', metrics: [valid, cost] },
        { id: 'other', metrics: [valid] },
        { id: 'third', metrics: [valid] },
      ],
    );
    expect(compared.map(({ metric }) => metric)).toEqual(['tickets/cost', 'tickets/valid']);
  });
});

describe('evidence that cannot be compared', () => {
  const rows = [row('a', { valid: 1 }), row('b', { valid: 1 })];
  const good = run('good', rows);
  const broken: [string, Parameters<typeof evidenceProblems>, RegExp][] = [
    [
      'another suite digest',
      [[good], [run('x', rows, { digest: 'sha256:other' })]],
      /suite tickets differs.*sha256:suite.*sha256:other/,
    ],
    [
      'another split',
      [[good], [run('x', rows, { split: 'validation' })]],
      /split test for the baseline and validation/,
    ],
    [
      'an incomplete run',
      [[good], [run('x', rows, { complete: false })]],
      /candidate run x of suite tickets is not complete/,
    ],
    ['a case twice', [[good], [run('x', [...rows, row('a', { valid: 0 })])]], /has 1 case twice: a/],
    ['a digest twice', [[good], [run('x', [...rows, row('z', { valid: 0 }, { caseDigest: 'digest-a' })])]], /twice: z/],
    ['two runs of a suite', [[good, run('y', rows)], [good]], /baseline has two runs of suite tickets/],
  ];
  it.each(broken)('%s', (_, [left, right], reason) => {
    expect(evidenceProblems(left, right).join()).toMatch(reason);
    expect(() => compareRuns(left, right, [])).toThrowError(
      expect.objectContaining({ code: 'CUPEL_GATE_EVIDENCE_INVALID', exit: 4 }),
    );
  });
  it('the same case in two epochs is fine', () => {
    expect(evidenceProblems(null, [run('x', [...rows, row('a', { valid: 0 }, { epoch: 1 })])])).toEqual([]);
  });
});

it('a first release is compared with nothing and judged by its bounds', () => {
  const rows = Array.from({ length: 60 }, (_, i) => row(`c${i}`, { valid: 1 }));
  const comparisons = compareRuns(null, [run('sft', rows)], [{ id: 'tickets', metrics: [valid] }]);
  const policy = policyOf({ primary: { metric: 'tickets/valid', minEffect: 0 }, guards: { critical: [], watch: [] } });
  expect(decide({ comparisons, policy, baseline: null, candidate }).kind).toBe('INCONCLUSIVE');
  expect(decide({ comparisons, policy, baseline, candidate }).kind).toBe('INCONCLUSIVE');
});

describe('estimates', () => {
  it('give a rate with Wilson, errors as failures, unscored apart', () => {
    const rows = [
      ...Array.from({ length: 8 }, (_, i) => row(`ok${i}`, { valid: 1 })),
      row('bad', { valid: 0 }),
      row('none', null),
      row('null', { valid: null }),
    ];
    const result = estimate(valid, rows);
    expect(result).toMatchObject({ value: 0.8, n: 10, clusters: 10, errors: 1, unscored: 1 });
    expect(result.low).toBeCloseTo(0.4901624715, 9);
    expect(result.high).toBeCloseTo(0.9433178485, 9);
  });
  it('widen where cases share clusters', () => {
    const rows = Array.from({ length: 200 }, (_, i) =>
      row(`c${i}`, { valid: i % 20 < 15 ? 1 : 0 }, { cluster: `k${i % 20}` }),
    );
    const [clustered, alone] = [estimate(valid, rows), estimate(valid, rows, { cluster: 'case' })];
    expect(clustered).toMatchObject({ value: 0.75, n: 200, clusters: 20 });
    expect((clustered.high as number) - (clustered.low as number)).toBeGreaterThan(
      2 * ((alone.high as number) - (alone.low as number)),
    );
  });
  it('say nothing where there is nothing', () => {
    expect(estimate(valid, [])).toEqual({
      value: null,
      low: null,
      high: null,
      n: 0,
      clusters: 0,
      errors: 0,
      unscored: 0,
    });
    expect(estimate(cost, [row('a', { cost: 2 })])).toMatchObject({ value: 2, low: null, high: null, n: 1 });
  });
  it('never average an unscored mean as zero', () => {
    expect(
      estimate(cost, [row('a', { cost: 2 }), row('b', { cost: null }), row('c', { cost: 4 }), row('d', null)]),
    ).toMatchObject({ value: 3, n: 2, errors: 1, unscored: 1 });
  });
});

describe('naive gates', () => {
  const options = { primary: 'tickets/all_five', validity: 'tickets/valid' };
  it('let a bad checkpoint through on validity', () => {
    const gates = naiveGates(
      [
        paired('tickets/all_five', { n: 300, lost: 60, gained: 2 }),
        paired('tickets/valid', { n: 300, lost: 3, gained: 2, both: 290 }),
      ],
      options,
    );
    expect(gates).toEqual([
      { name: 'mean went up', verdict: 'REJECT', reason: 'tickets/all_five is 56.3 %, was 75.7 %' },
      { name: 'validity only', verdict: 'PROMOTE', reason: 'tickets/valid is 97.3 %, at least 95.0 %' },
      {
        name: 'any regression blocks',
        verdict: 'REJECT',
        reason: '2 of 2 metrics got worse, tickets/all_five among them',
      },
    ]);
  });
  it('promote noise on the mean, and block any drop', () => {
    const gates = naiveGates(
      [
        paired('tickets/all_five', { n: 300, lost: 3, gained: 4 }),
        paired('tickets/valid', { n: 300, lost: 1, gained: 0, both: 250 }),
      ],
      options,
    );
    expect(gates.map(({ verdict }) => verdict)).toEqual(['PROMOTE', 'REJECT', 'REJECT']);
  });
  it('leave out what was not measured', () => expect(naiveGates([], options)).toEqual([]));
});

describe('differences', () => {
  it('agree with the gate on the side that is better, and turn lower-is-better metrics', () => {
    const [first, second] = differences(
      [
        paired('tickets/all_five', { n: 300, lost: 10, gained: 60 }),
        { ...paired('tickets/invented', { n: 300, lost: 10, gained: 60 }), direction: 'lower' as const },
      ],
      policyOf({}),
    );
    expect(first).toMatchObject({ metric: 'tickets/all_five', n: 300 });
    expect(first?.difference).toBeCloseTo(50 / 300, 12);
    expect(first?.pBetter).toBeLessThan(0.001);
    expect(second?.difference).toBeCloseTo(-50 / 300, 12);
    expect(second?.pWorse).toBeLessThan(0.001);
    expect(first?.low).toBeGreaterThan(0);
  });
});
