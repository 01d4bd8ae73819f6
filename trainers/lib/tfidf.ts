import { wordGrams } from '../../src/kit/index.ts';

export interface SparseVector {
  readonly indices: readonly number[];
  readonly values: readonly number[];
}

export interface TfidfFeatures {
  readonly terms: readonly string[];
  readonly idf: readonly number[];
}

/**
 * Word 1- and 2-grams that at least `minTexts` texts have, sorted, with smooth inverse document frequency
 * ln((1 + n) / (1 + df)) + 1 (as scikit-learn's TfidfVectorizer).
 */
export function fitTfidf(texts: readonly string[], minTexts: number): TfidfFeatures {
  const frequencies = new Map<string, number>();
  for (const text of texts)
    for (const term of wordGrams(text, 2).keys()) frequencies.set(term, (frequencies.get(term) ?? 0) + 1);
  const kept = [...frequencies].filter(([, count]) => count >= minTexts).sort(([a], [b]) => (a < b ? -1 : 1));
  return {
    terms: kept.map(([term]) => term),
    idf: kept.map(([, count]) => round(Math.log((1 + texts.length) / (1 + count)) + 1)),
  };
}

/** Counts × idf, scaled to length 1. */
export function tfidfVector(text: string, index: ReadonlyMap<string, number>, idf: readonly number[]): SparseVector {
  const entries = [...wordGrams(text, 2)].flatMap(([term, count]) => {
    const at = index.get(term);
    return at === undefined ? [] : [{ at, value: count * (idf[at] ?? 0) }];
  });
  const norm = Math.sqrt(entries.reduce((sum, { value }) => sum + value * value, 0)) || 1;
  return { indices: entries.map(({ at }) => at), values: entries.map(({ value }) => value / norm) };
}

/** Six significant digits: what is stored, and so what is used. */
export function round(value: number): number {
  return Number(value.toPrecision(6));
}
