import type { MetricDefinition, Row } from '../contracts/index.ts';

/** What one run says about one case and one metric, epochs averaged. */
export interface CaseValue {
  readonly case: string;
  readonly digest: string;
  readonly cluster: string;
  /** scored: has a value. unscored: the validator gave null. error: no output at all. absent: the metric does not apply. */
  readonly state: 'scored' | 'unscored' | 'error' | 'absent';
  readonly value: number;
  /** True where an epoch lacks an output or a score. */
  readonly missing: boolean;
}

/**
 * Values of a metric by case digest. Rows without output are failures of a rate: 0 where higher is better, 1 where lower
 * is; a mean has no such value, there they are left out and counted.
 */
export function caseValues(metric: MetricDefinition, rows: readonly Row[]): Map<string, CaseValue> {
  const failing = metric.direction === 'higher' ? 0 : 1;
  const grouped = new Map<string, Row[]>();
  for (const row of rows) grouped.set(row.caseDigest, [...(grouped.get(row.caseDigest) ?? []), row]);
  const values = new Map<string, CaseValue>();
  for (const [digest, epochs] of grouped) {
    const [first] = epochs as [Row, ...Row[]];
    const scores = epochs.map((row) => (row.status === 'error' ? 'error' : own(row, metric.name)));
    const applies = scores.some((score) => score !== 'error' && score !== 'absent');
    const numbers = scores
      .map((score) => (score === 'error' && applies && metric.kind === 'rate' ? failing : score))
      .filter((score) => typeof score === 'number');
    const state = numbers.length > 0 ? 'scored' : applies ? 'unscored' : scores.includes('error') ? 'error' : 'absent';
    values.set(digest, {
      case: first.case,
      digest,
      cluster: first.cluster ?? digest,
      state,
      value: numbers.length > 0 ? sum(numbers) / numbers.length : failing,
      missing: scores.includes('error') || (applies && scores.includes(null)),
    });
  }
  return values;
}

function own(row: Row, name: string): number | null | 'absent' {
  if (!Object.hasOwn(row.scores, name)) return 'absent';
  return row.scores[name]?.value ?? null;
}

/** True where every case that has an output has the metric: then it also applies to cases without output. */
export function appliesToAll(values: Iterable<CaseValue>): boolean {
  for (const value of values) if (value.state === 'absent') return false;
  return true;
}

/** Sum from the smallest up, so that the order of rows does not show in the last digit. */
function sum(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b).reduce((total, value) => total + value, 0);
}
