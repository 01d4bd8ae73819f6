/** Policy: data, written by people, digested into the verdict. */
export interface Policy {
  readonly version: 1;
  /** Significance level of each one-sided family, (0, 0.5). */
  readonly alpha: number;
  /** What clusters rows: `cluster` (the case's key) or `case`. */
  readonly cluster: 'cluster' | 'case';
  readonly primary: PrimaryRule;
  readonly guards: {
    /** Each must be shown non-inferior (or above an absolute floor). Intersection-union: each at alpha. */
    readonly critical: readonly GuardRule[];
    /** Block only on harm that survives Holm's correction. */
    readonly watch: readonly WatchRule[];
  };
  /** Share of cases that may lack an output; above it the verdict is INVALID. */
  readonly missing: { readonly max: number };
  /** Resamples and seed of every bootstrap. */
  readonly bootstrap: { readonly resamples: number; readonly seed: number };
}

/** A metric of a suite: `tickets/all_five`. */
export type MetricPath = string;

export interface PrimaryRule {
  readonly metric: MetricPath;
  /** Smallest improvement that matters, in the metric's unit; 0 = any. */
  readonly minEffect: number;
}

export interface GuardRule {
  readonly metric: MetricPath;
  /** Largest loss that is tolerated, in the metric's unit, > 0. */
  readonly margin: number;
  /** Bound that the candidate's value itself must hold: floor for `higher`, ceiling for `lower` metrics. */
  readonly absolute?: number;
}

export interface WatchRule {
  readonly metric: MetricPath;
}

/** Values of one metric in two runs, paired by case digest. */
export interface PairedMetric {
  readonly metric: MetricPath;
  readonly direction: 'higher' | 'lower';
  readonly kind: 'rate' | 'mean';
  /** One entry a case that has the metric in both runs; missing outputs already counted as failures. */
  readonly pairs: readonly {
    readonly case: string;
    readonly cluster: string;
    readonly baseline: number;
    readonly candidate: number;
  }[];
  /** Number of cases that both runs have and the metric applies to: `pairs` and those left out because a side is unscored. */
  readonly cases: number;
  /** Ids of cases that only one run has, or that have the metric in one run only. */
  readonly onlyBaseline: readonly string[];
  readonly onlyCandidate: readonly string[];
  /** Cases whose output is missing (status error) or unscored, per side. */
  readonly missing: { readonly baseline: number; readonly candidate: number };
}

/** A value with its interval and how much stands behind it. */
export interface Estimate {
  readonly value: number | null;
  readonly low: number | null;
  readonly high: number | null;
  /** Number of cases. */
  readonly n: number;
  /** Number of independent clusters. */
  readonly clusters: number;
  /** Cases without output. */
  readonly errors: number;
  /** Cases that the validator could not score. */
  readonly unscored: number;
}

export type VerdictKind = 'PROMOTE' | 'REJECT' | 'INCONCLUSIVE' | 'INVALID';

/** One rule of the policy, decided. */
export interface RuleResult {
  readonly role: 'primary' | 'critical' | 'watch' | 'validity';
  readonly metric: MetricPath;
  readonly outcome: 'pass' | 'fail' | 'unclear' | 'invalid';
  readonly baseline: number | null;
  readonly candidate: number | null;
  /** candidate - baseline, positive is better whatever the direction. */
  readonly difference: number | null;
  readonly low: number | null;
  readonly high: number | null;
  readonly pValue: number | null;
  /** After Holm's correction, where the rule stands in a family. */
  readonly adjustedP: number | null;
  readonly n: number;
  readonly clusters: number;
  readonly discordant: number | null;
  readonly margin: number | null;
  /** Name of the test, e.g. `mcnemar-midp`, `cluster-bootstrap`, `tango`. */
  readonly test: string;
  /** One sentence. */
  readonly reason: string;
}

export interface Verdict {
  readonly version: 1;
  readonly algorithm: string;
  readonly kind: VerdictKind;
  /** One sentence that a release manager can read out. */
  readonly headline: string;
  readonly rules: readonly RuleResult[];
  /** INCONCLUSIVE: number of cases that would settle it at 80 % power, if that can be said. */
  readonly casesNeeded: number | null;
  readonly policyDigest: string;
  readonly baseline: { readonly checkpoint: string; readonly digest: string; readonly runs: readonly string[] } | null;
  readonly candidate: { readonly checkpoint: string; readonly digest: string; readonly runs: readonly string[] };
}
