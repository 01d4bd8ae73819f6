import { wordGrams } from '../../src/kit/index.ts';

export interface DecisionList {
  readonly rules: readonly { readonly cue: string; readonly value: number }[];
  /** Value where no cue is found. */
  readonly otherwise: number;
}

/**
 * Learns rules "if the text has this word or pair of words, then this value", best first (decision lists: Rivest 1987;
 * log-odds as Yarowsky 1994). After each rule the texts that it covers are set aside, so that a later cue must be good
 * on what is left. Stops when no cue is better than always saying the most frequent value.
 * @param labels value index of each text.
 */
export function learnDecisionList(
  texts: readonly string[],
  labels: readonly number[],
  options: { readonly maxRules: number; readonly minTexts: number },
): DecisionList {
  const cues = cuesOf(texts, options.minTexts);
  const cuesAt: number[][] = texts.map(() => []);
  for (const [index, { rows }] of cues.entries()) for (const row of rows) cuesAt[row]?.push(index);
  const counts = cues.map(({ rows }) => countLabels(rows, labels));
  const sizes = cues.map(({ rows }) => rows.length);
  const left = countLabels([...texts.keys()], labels);
  const open = new Set(texts.keys());
  const rules: { cue: string; value: number }[] = [];
  while (rules.length < options.maxRules && open.size > 0) {
    const usualOdds = logOdds(left.get(mostFrequent(left)) ?? 0, open.size);
    let best: { index: number; value: number; score: number; count: number } | null = null;
    for (const [index, covered] of counts.entries()) {
      const size = sizes[index] ?? 0;
      if (size < options.minTexts) continue;
      const value = mostFrequent(covered);
      const count = covered.get(value) ?? 0;
      const score = logOdds(count, size);
      if (score > usualOdds && (best === null || score > best.score || (score === best.score && count > best.count)))
        best = { index, value, score, count };
    }
    if (best === null) break;
    const { cue = '', rows = [] } = cues[best.index] ?? {};
    rules.push({ cue, value: best.value });
    // What is covered leaves the counts of every cue that it has: to count anew for each rule takes far longer.
    for (const row of rows) {
      if (!open.delete(row)) continue;
      const label = labels[row] ?? 0;
      takeOne(left, label);
      for (const index of cuesAt[row] ?? []) {
        takeOne(counts[index] as Map<number, number>, label);
        sizes[index] = (sizes[index] ?? 0) - 1;
      }
    }
  }
  return { rules, otherwise: mostFrequent(open.size > 0 ? left : countLabels([...texts.keys()], labels)) };
}

/** Words and pairs of words that enough texts have, sorted, with the rows that have them. */
function cuesOf(texts: readonly string[], minTexts: number): { readonly cue: string; readonly rows: number[] }[] {
  const postings = new Map<string, number[]>();
  for (const [row, text] of texts.entries()) {
    for (const cue of wordGrams(text, 2).keys()) {
      const rows = postings.get(cue);
      if (rows === undefined) postings.set(cue, [row]);
      else rows.push(row);
    }
  }
  return [...postings]
    .filter(([, rows]) => rows.length >= minTexts)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([cue, rows]) => ({ cue, rows }));
}

function takeOne(counts: Map<number, number>, label: number): void {
  counts.set(label, (counts.get(label) ?? 0) - 1);
}

/** Smoothed log of right against wrong. */
function logOdds(right: number, all: number): number {
  return Math.log((right + 0.5) / (all - right + 0.5));
}

function countLabels(rows: readonly number[], labels: readonly number[]): Map<number, number> {
  const counts = new Map<number, number>();
  for (const row of rows) counts.set(labels[row] ?? 0, (counts.get(labels[row] ?? 0) ?? 0) + 1);
  return counts;
}

/** The lowest of the most frequent values. */
function mostFrequent(counts: ReadonlyMap<number, number>): number {
  let [best, most] = [0, 0];
  for (const [value, count] of counts) {
    if (count > most || (count === most && value < best)) [best, most] = [value, count];
  }
  return best;
}
