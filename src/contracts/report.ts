import type { Estimate, Verdict } from './gate.ts';
import type { PluginHead } from './plugin.ts';
import type { Layer, MetricDefinition } from './suite.ts';

export interface Report extends PluginHead<'report'> {
  /** Pure: same input, same bytes. Paths are relative to the output folder. */
  render(input: ReportInput): Promise<readonly { readonly path: string; readonly content: string }[]>;
}

/** All that a report may show of one checkpoint. Made by `jobs/report`. */
export interface ReportInput {
  readonly project: string;
  readonly checkpoint: {
    readonly id: string;
    readonly role: string;
    readonly digest: string;
    readonly description: string;
  };
  readonly baselineId: string | null;
  readonly verdict: Verdict | null;
  /** What a validity-only gate, or other naive gates, would have said. */
  readonly naiveGates: readonly {
    readonly name: string;
    readonly verdict: 'PROMOTE' | 'REJECT';
    readonly reason: string;
  }[];
  readonly suites: readonly SuiteReport[];
  /** Metrics of every checkpoint of the project, for the comparison table. */
  readonly comparison: readonly {
    readonly id: string;
    readonly role: string;
    readonly metrics: Readonly<Record<string, Estimate>>;
  }[];
  readonly training: {
    readonly trainer: string;
    readonly steps: number;
    readonly trainedTokens: number;
    readonly losses: readonly number[];
    readonly parent: string;
    /** Learning rate of each step. */
    readonly learningRates?: readonly number[];
    /** A metric of the validation split while training; null: could not be measured. */
    readonly validation?: {
      readonly metric: string;
      readonly points: readonly { readonly step: number; readonly value: number | null; readonly best: boolean }[];
    };
    /** Step whose weights were saved, where validation chose it. */
    readonly bestStep?: number;
    /** Resolved settings of the recipe. */
    readonly settings?: readonly { readonly name: string; readonly value: unknown; readonly from: string }[];
  } | null;
  /** Cases that went wrong or changed, most telling first. */
  readonly cases: readonly CaseReport[];
  readonly lengthControl: LengthControlReport | null;
  readonly provenance: readonly { readonly name: string; readonly digest: string }[];
  /** Free-standing remarks that honesty demands, e.g. what the base was taught. */
  readonly notes: readonly string[];
  /** ISO date that the caller passes in; reports read no clock. */
  readonly date: string;
}

export interface SuiteReport {
  readonly id: string;
  readonly title: string;
  readonly layer: Layer;
  readonly split: string;
  readonly metrics: readonly (MetricDefinition & {
    readonly estimate: Estimate;
    readonly baseline: Estimate | null;
    readonly references: Readonly<Record<string, Estimate>>;
  })[];
  /** Layer E: OWASP item to counts. */
  readonly matrix?: readonly {
    readonly item: string;
    readonly attacks: number;
    readonly resisted: number;
    readonly broken: number;
    readonly notEstablished: number;
  }[];
  readonly seconds: number | null;
}

export interface CaseReport {
  readonly suite: string;
  readonly case: string;
  readonly change: 'regressed' | 'improved' | 'failing' | 'passing';
  readonly input: string;
  readonly expected: string;
  readonly baselineOutput: string | null;
  readonly output: string;
  readonly failed: readonly { readonly metric: string; readonly explanation: string }[];
  readonly tags: readonly string[];
}

export interface LengthControlReport {
  readonly judge: string;
  readonly calibrated: boolean;
  /** Percent of comparisons won, both orders averaged. */
  readonly winRate: Estimate;
  /** What it would be at equal lengths. */
  readonly lengthControlled: Estimate;
  /** Coefficient of tanh(length difference / sd). */
  readonly lengthCoefficient: number | null;
  readonly inconsistentOrders: number;
  readonly points: readonly { readonly lengthDifference: number; readonly preference: number }[];
}
