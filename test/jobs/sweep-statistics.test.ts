import { expect, test } from 'vitest';
import type { MetricDefinition, Row, Run } from '../../src/contracts/index.ts';
import { compareSeeds, type SeedRuns } from '../../src/jobs/sweep-statistics.ts';
import { Random } from '../../src/kit/index.ts';

const metric: MetricDefinition = { name: 'right', title: 'Right', direction: 'higher', kind: 'rate' };
const options = { alpha: 0.05, resamples: 200, seed: 1 };

/** A run in which each case is right with its own chance, moved by the luck of the seed. */
function run(cases: number, chance: (index: number) => number, random: Random): Run {
  const rows = Array.from({ length: cases }, (_, index) => ({
    case: `c${index}`,
    caseDigest: `d${index}`,
    cluster: null,
    status: 'ok',
    scores: { right: { value: random.next() < chance(index) ? 1 : 0 } },
  })) as unknown as Row[];
  return { identity: {} as Run['identity'], complete: true, rows };
}

function candidate(name: string, level: number, luck: number, seeds: number, random: Random, cases = 80): SeedRuns {
  return {
    name,
    seeded: true,
    runs: Array.from({ length: seeds }, () => {
      const moved = level + luck * (random.next() + random.next() - 1) * 1.7;
      return run(cases, (index) => Math.min(1, Math.max(0, moved + 0.3 * ((index % 10) / 10 - 0.45))), random);
    }),
  };
}

test('equal candidates with lucky seeds are told apart no more often than alpha, over the whole family', () => {
  const random = new Random(11, 'sweep');
  let [wrong, naive] = [0, 0];
  const trials = 80;
  for (let trial = 0; trial < trials; trial++) {
    const reference = candidate('as written', 0.5, 0.12, 3, random);
    const others = ['a', 'b', 'c'].map((name) => candidate(name, 0.5, 0.12, 3, random));
    const [, ...rows] = compareSeeds('s', metric, reference, others, options);
    if (rows.some(({ decision }) => decision !== 'no difference shown')) wrong++;
    const single = (one: SeedRuns): SeedRuns => ({ ...one, runs: one.runs.slice(0, 1), seeded: false });
    // The same cases as if a seed had no luck: what a look at one run each would say.
    const [, ...fooled] = compareSeeds(
      's',
      metric,
      { ...single(reference), runs: [reference.runs[0] as Run, reference.runs[0] as Run] },
      others.map((one) => ({ ...single(one), runs: [one.runs[0] as Run, one.runs[0] as Run] })),
      options,
    );
    if (fooled.some(({ decision }) => decision !== 'no difference shown')) naive++;
  }
  // At most alpha, with room for the spread of 80 trials; a comparison that forgets the seeds is wrong far more often.
  expect(wrong / trials).toBeLessThan(0.1);
  expect(naive / trials).toBeGreaterThan(0.2);
});

test('a candidate that is better with every seed is found', () => {
  const random = new Random(5, 'better');
  const rows = compareSeeds(
    's',
    metric,
    candidate('as written', 0.4, 0.02, 3, random, 300),
    [candidate('better', 0.7, 0.02, 3, random, 300), candidate('worse', 0.15, 0.02, 3, random, 300)],
    options,
  );
  expect(rows.map(({ name, decision }) => `${name}: ${decision}`)).toEqual([
    'as written: reference',
    'better: better',
    'worse: worse',
  ]);
  const [, better] = rows;
  expect(better?.low ?? 0).toBeGreaterThan(0);
  expect(better?.adjustedP ?? 1).toBeGreaterThanOrEqual(better?.pValue ?? 0);
});

test('a metric of which less is better is turned round', () => {
  const random = new Random(5, 'lower');
  const [, row] = compareSeeds(
    's',
    { ...metric, direction: 'lower' },
    candidate('as written', 0.6, 0.02, 3, random, 300),
    [candidate('fewer', 0.2, 0.02, 3, random, 300)],
    options,
  );
  expect(row).toMatchObject({ decision: 'better' });
  expect(row?.difference ?? 0).toBeGreaterThan(0.2);
});

test('one seed decides nothing, few cases neither, and without a reference there is nothing to decide', () => {
  const random = new Random(5, 'one');
  const single = compareSeeds(
    's',
    metric,
    candidate('as written', 0.2, 0, 1, random),
    [candidate('other', 0.9, 0, 1, random)],
    options,
  );
  expect(single[1]).toMatchObject({ decision: 'one seed: not decided', pValue: null, spread: null });
  const few = compareSeeds(
    's',
    metric,
    candidate('as written', 0.2, 0, 3, random, 8),
    [candidate('other', 0.9, 0, 3, random, 8)],
    options,
  );
  expect(few[1]).toMatchObject({ decision: 'too few cases' });
  const alone = compareSeeds('s', metric, null, [candidate('only', 0.5, 0, 3, random)], options);
  expect(alone).toMatchObject([{ decision: 'nothing to compare with', difference: null }]);
  expect(alone[0]?.spread).not.toBeNull();
});
