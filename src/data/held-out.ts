import type { TrainingRow } from '../contracts/index.ts';
import { SimilarTexts } from './min-hash.ts';
import type { RowFinding } from './row-finding.ts';
import { askedTexts, fold, similar } from './row-texts.ts';

/** Input of a case that training must not have seen. */
export interface HeldOutInput {
  readonly suite: string;
  readonly case: string;
  readonly split: 'validation' | 'test';
  /** What the user says last, as the suite asks it. */
  readonly text: string;
}

/** Rows that ask, in any of their turns, what a case asks. Of several cases the worst is named: a test, word for word. */
export function heldOutRows(rows: readonly TrainingRow[], heldOut: readonly HeldOutInput[]): RowFinding[] {
  if (heldOut.length === 0) return [];
  const exact = new Map<string, HeldOutInput>();
  for (const one of heldOut) {
    const key = fold(one.text);
    if (key !== '' && exact.get(key)?.split !== 'test') exact.set(key, one);
  }
  const near = new SimilarTexts(similar);
  for (const { text } of heldOut) near.add(text);
  return rows.flatMap((row): RowFinding[] => {
    const asked = askedTexts(row);
    const same = asked.flatMap((text) => exact.get(fold(text)) ?? []);
    const found = same.find(({ split }) => split === 'test') ?? same[0];
    if (found !== undefined) {
      const severity = found.split === 'test' ? 'error' : 'warning';
      return [{ kind: 'held-out', severity, ids: [row.id], message: `the input is that of ${placeOf(found)}` }];
    }
    const index = asked.map((text) => near.find(text)).find((place) => place !== null) ?? -1;
    const close = heldOut[index];
    if (close === undefined) return [];
    const message = `the input is nearly that of ${placeOf(close)}`;
    return [{ kind: 'near-held-out', severity: 'warning', ids: [row.id], message }];
  });
}

function placeOf({ suite, case: id, split }: HeldOutInput): string {
  return `case "${id}" of suite "${suite}" (${split})`;
}
