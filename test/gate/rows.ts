import type { PairedMetric, Policy, Row, Run } from '../../src/contracts/index.ts';
import type { Random } from '../../src/kit/index.ts';

/** A policy for tests; parts may be replaced. */
export function policyOf(parts: Partial<Policy> = {}): Policy {
  return {
    version: 1,
    alpha: 0.05,
    cluster: 'cluster',
    primary: { metric: 'tickets/all_five', minEffect: 0 },
    guards: {
      critical: [{ metric: 'tickets/recall', margin: 0.05 }],
      watch: [{ metric: 'tickets/category' }, { metric: 'tickets/invented' }],
    },
    missing: { max: 0.02 },
    bootstrap: { resamples: 500, seed: 1 },
    ...parts,
  };
}

export interface PairedPlan {
  readonly n: number;
  /** Number of pairs that only one side gets right (worse-off first), the rest agree. */
  readonly lost: number;
  readonly gained: number;
  readonly both?: number;
  readonly direction?: 'higher' | 'lower';
  /** Pairs are dealt into this many clusters, in turn; default: each its own. */
  readonly clusters?: number;
}

/** Constructed pairs: `gained` cases get better, `lost` get worse, whatever the direction. */
export function paired(metric: string, plan: PairedPlan): PairedMetric {
  const { n, lost, gained, direction = 'higher', clusters } = plan;
  const both = plan.both ?? Math.round((n - lost - gained) * 0.7);
  const [good, bad] = direction === 'higher' ? [1, 0] : [0, 1];
  const pairs = Array.from({ length: n }, (_, i) => {
    const name = `case-${String(i).padStart(4, '0')}`;
    const cluster = clusters === undefined ? name : `cluster-${i % clusters}`;
    if (i < lost) return { case: name, cluster, baseline: good, candidate: bad };
    if (i < lost + gained) return { case: name, cluster, baseline: bad, candidate: good };
    const value = i < lost + gained + both ? good : bad;
    return { case: name, cluster, baseline: value, candidate: value };
  });
  return {
    metric,
    direction,
    kind: 'rate',
    pairs,
    cases: n,
    onlyBaseline: [],
    onlyCandidate: [],
    missing: { baseline: 0, candidate: 0 },
  };
}

/** The four metrics of `policyOf`, with the given plans and nothing changed elsewhere. */
export function comparisonsOf(
  plans: Partial<Record<'all_five' | 'recall' | 'category' | 'invented', Partial<PairedPlan>>>,
  shared: Partial<PairedPlan> = {},
): PairedMetric[] {
  const base = { n: 300, lost: 4, gained: 4, ...shared };
  return [
    paired('tickets/all_five', { ...base, ...plans.all_five }),
    paired('tickets/recall', { ...base, ...plans.recall }),
    paired('tickets/category', { ...base, ...plans.category }),
    paired('tickets/invented', { ...base, direction: 'lower', ...plans.invented }),
  ];
}

/** Random pairs: latent difficulty shared within clusters, so that cases of a cluster go right and wrong together. */
export function simulated(
  random: Random,
  metric: string,
  options: { n: number; clusters: number | null; rate: number; gain: number; discordance: number; sharing: number },
): PairedMetric {
  const { n, clusters, rate, gain, discordance, sharing } = options;
  // P(lost) and P(gained) with P(gained) - P(lost) = gain and their sum = discordance.
  const [lose, win] = [(discordance - gain) / 2, (discordance + gain) / 2];
  const draw = (): [number, number] => {
    const u = random.next();
    if (u < lose) return [1, 0];
    if (u < lose + win) return [0, 1];
    const value = random.chance(rate) ? 1 : 0;
    return [value, value];
  };
  const shared = clusters === null ? [] : Array.from({ length: clusters }, draw);
  const pairs = Array.from({ length: n }, (_, i) => {
    const cluster = clusters === null ? null : i % clusters;
    const [baseline, candidate] =
      cluster !== null && random.chance(sharing) ? (shared[cluster] as [number, number]) : draw();
    const name = `c${String(i).padStart(4, '0')}`;
    return { case: name, cluster: cluster === null ? name : `k${cluster}`, baseline, candidate };
  });
  return {
    metric,
    direction: 'higher',
    kind: 'rate',
    pairs,
    cases: n,
    onlyBaseline: [],
    onlyCandidate: [],
    missing: { baseline: 0, candidate: 0 },
  };
}

export const baseline = { checkpoint: 'base', digest: 'sha256:aa', runs: ['r1'] };
export const candidate = { checkpoint: 'sft', digest: 'sha256:bb', runs: ['r2'] };

/** A row with the given scores; null scores are unscored, an absent `scores` is a row without output. */
export function row(
  name: string,
  scores: Readonly<Record<string, number | null>> | null,
  more: Partial<Row> = {},
): Row {
  return {
    version: 1,
    suite: 'tickets',
    layer: 'A',
    split: 'test',
    case: name,
    caseDigest: `digest-${name}`,
    cluster: null,
    tags: [],
    epoch: 0,
    status: scores === null ? 'error' : 'ok',
    output: null,
    usage: { promptTokens: 1, generatedTokens: 1 },
    scores: Object.fromEntries(
      Object.entries(scores ?? {}).map(([key, value]) => [
        key,
        value === null ? { value, explanation: 'no verdict' } : { value },
      ]),
    ),
    ...more,
  };
}

/** A complete run of the suite `tickets`. */
export function run(
  id: string,
  rows: readonly Row[],
  more: { complete?: boolean; digest?: string; split?: string; suite?: string } = {},
): Run {
  return {
    identity: {
      version: 1,
      id,
      checkpoint: { id, digest: `sha256:${id}` },
      engine: 'native',
      suite: { id: more.suite ?? 'tickets', version: '1', digest: more.digest ?? 'sha256:suite', layer: 'A' },
      split: more.split ?? 'test',
      decoding: {},
      validators: [],
      seed: 1,
      epochs: 1,
    },
    complete: more.complete ?? true,
    rows,
  };
}
