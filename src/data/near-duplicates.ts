import type { TrainingRow } from '../contracts/index.ts';
import { SimilarTexts } from './min-hash.ts';
import type { RowFinding } from './row-finding.ts';
import { askedTexts, fold, similar } from './row-texts.ts';

/** Groups of rows whose last inputs (or documents) differ, and share four fifths of their word 3-grams with another. */
export function nearDuplicates(rows: readonly TrainingRow[]): RowFinding[] {
  const known = new SimilarTexts(similar);
  const seen = new Set<string>();
  const distinct: TrainingRow[] = [];
  /** First row of the group of each. */
  const roots: number[] = [];
  const groups = new Map<number, string[]>();
  for (const row of rows) {
    const asked = askedTexts(row).at(-1) ?? '';
    const key = fold(asked);
    if (seen.has(key)) continue;
    seen.add(key);
    const other = known.add(asked);
    const index = distinct.push(row) - 1;
    const root = other === null ? index : (roots[other] as number);
    roots.push(root);
    if (other === null) continue;
    const group = groups.get(root);
    if (group === undefined) groups.set(root, [(distinct[root] as TrainingRow).id, row.id]);
    else group.push(row.id);
  }
  return [...groups.values()].map((ids) => ({
    kind: 'near-duplicate',
    severity: 'warning',
    ids,
    message: `${ids.length} inputs, each of which shares at least four fifths of its word 3-grams with another`,
  }));
}
