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
  const postings = new Map<string, number[]>();
  for (const [row, text] of texts.entries()) {
    for (const cue of wordGrams(text, 2).keys()) {
      const rows = postings.get(cue);
      if (rows === undefined) postings.set(cue, [row]);
      else rows.push(row);
    }
  }
  const cues = [...postings].filter(([, rows]) => rows.length >= options.minTexts).sort(([a], [b]) => (a < b ? -1 : 1));
  const open = new Set(texts.keys());
  const rules: { cue: string; value: number }[] = [];
  while (rules.length < options.maxRules && open.size > 0) {
    const left = countLabels([...open], labels);
    const usual = mostFrequent(left);
    const usualOdds = logOdds(left.get(usual) ?? 0, open.size);
    let best: { cue: string; value: number; score: number; count: number } | null = null;
    for (const [cue, rows] of cues) {
      const covered = rows.filter((row) => open.has(row));
      if (covered.length < options.minTexts) continue;
      const counts = countLabels(covered, labels);
      const value = mostFrequent(counts);
      const count = counts.get(value) ?? 0;
      const score = logOdds(count, covered.length);
      if (score > usualOdds && (best === null || score > best.score || (score === best.score && count > best.count)))
        best = { cue, value, score, count };
    }
    if (best === null) break;
    rules.push({ cue: best.cue, value: best.value });
    for (const row of postings.get(best.cue) ?? []) open.delete(row);
  }
  return { rules, otherwise: mostFrequent(countLabels(open.size > 0 ? [...open] : [...texts.keys()], labels)) };
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
  return [...counts].reduce(
    (best, [value, count]) =>
      count > best.count || (count === best.count && value < best.value) ? { value, count } : best,
    { value: 0, count: 0 },
  ).value;
}
