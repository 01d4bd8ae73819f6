import { createHash } from 'node:crypto';
import type { Row, Run } from '../contracts/index.ts';
import { canonicalJson } from '../kit/index.ts';

/** Key of a row within its run. */
export function rowKey(row: Pick<Row, 'case' | 'epoch'>): string {
  return `${row.case}@${row.epoch}`;
}

/** Rows in their canonical order: suite, case, epoch. Runs that are equal read equal, whatever was written first. */
export function sortRows(rows: readonly Row[]): Row[] {
  return [...rows].sort((a, b) => compare(a.suite, b.suite) || compare(a.case, b.case) || a.epoch - b.epoch);
}

/**
 * A run as text: its identity, then one row a line in canonical order, all canonical JSON. Equal runs give equal bytes.
 */
export function runText(run: Pick<Run, 'identity' | 'rows'>): string {
  return [run.identity, ...sortRows(run.rows)].map((value) => `${canonicalJson(value)}\n`).join('');
}

/** `sha256:<hex>` over `runText`. */
export function runDigest(run: Pick<Run, 'identity' | 'rows'>): string {
  const hash = createHash('sha256').update(`${canonicalJson(run.identity)}\n`);
  for (const row of sortRows(run.rows)) hash.update(`${canonicalJson(row)}\n`);
  return `sha256:${hash.digest('hex')}`;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
