import type { CountedWord } from './words.ts';

/** A new token: two tokens, old or new ones before it, joined. */
export interface ChosenToken {
  readonly id: number;
  readonly left: number;
  readonly right: number;
  /** The old tokens that it stands for. */
  readonly pieces: readonly number[];
  /** Tokens that it saved over the corpus when it was chosen. */
  readonly saved: number;
}

export interface ChoiceOptions {
  readonly tokens: number;
  readonly minimumCount: number;
  /** Id of the first new token. */
  readonly firstId: number;
  /** Whether a token of this text is there already, made in another way. */
  readonly taken: (pieces: readonly number[]) => boolean;
}

interface Word {
  pieces: number[];
  readonly count: number;
}

/** Ids are below 2^22. */
const idRange = 1 << 22;

/**
 * Greedy choice by fertility gain, with recount after each: the gain of a new token is what the corpus saves by it,
 * count × (pieces − 1). A token of n pieces is built from n − 1 merges, each with a token of its own, and none is more
 * frequent than its most frequent pair: so the best token for its place is always a pair, whose gain is its count.
 * This is byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909) gone on with where the old vocabulary stopped.
 * Equal gains: lower ids first.
 */
export function chooseTokens(counted: readonly CountedWord[], options: ChoiceOptions): ChosenToken[] {
  const words: Word[] = counted.map(({ pieces, count }) => ({ pieces: [...pieces], count }));
  const gains = new Map<number, number>();
  const places = new Map<number, Set<number>>();
  const queue = new Queue();
  const changed = new Set<number>();
  const add = (key: number, count: number, word: number): void => {
    gains.set(key, (gains.get(key) ?? 0) + count);
    let found = places.get(key);
    if (found === undefined) places.set(key, (found = new Set()));
    if (count > 0) found.add(word);
    changed.add(key);
  };
  const countPairs = (index: number, sign: 1 | -1): void => {
    const { pieces, count } = words[index] as Word;
    let overlapping = false;
    for (let at = 0; at + 1 < pieces.length; at++) {
      // Of three equal pieces in a row only two can be joined.
      overlapping = !overlapping && at > 0 && pieces[at - 1] === pieces[at] && pieces[at] === pieces[at + 1];
      if (overlapping) continue;
      add((pieces[at] as number) * idRange + (pieces[at + 1] as number), sign * count, index);
    }
  };
  const enqueue = (): void => {
    for (const key of changed) {
      const gain = gains.get(key) ?? 0;
      if (gain >= options.minimumCount) queue.push({ key, gain });
    }
    changed.clear();
  };
  for (const index of words.keys()) countPairs(index, 1);
  enqueue();
  const chosen: ChosenToken[] = [];
  const piecesOf = (id: number): readonly number[] =>
    id < options.firstId ? [id] : (chosen[id - options.firstId] as ChosenToken).pieces;
  while (chosen.length < options.tokens) {
    const best = queue.pop();
    if (best === undefined) break;
    // What was queued before a recount is queued again by it.
    if (gains.get(best.key) !== best.gain) continue;
    const [left, right] = [Math.floor(best.key / idRange), best.key % idRange];
    const pieces = [...piecesOf(left), ...piecesOf(right)];
    if (options.taken(pieces)) {
      gains.delete(best.key);
      continue;
    }
    const id = options.firstId + chosen.length;
    let saved = 0;
    for (const index of places.get(best.key) ?? []) {
      countPairs(index, -1);
      const word = words[index] as Word;
      const before = word.pieces.length;
      word.pieces = joined(word.pieces, left, right, id);
      saved += word.count * (before - word.pieces.length);
      countPairs(index, 1);
    }
    chosen.push({ id, left, right, pieces, saved });
    gains.delete(best.key);
    places.delete(best.key);
    enqueue();
  }
  return chosen;
}

function joined(pieces: readonly number[], left: number, right: number, id: number): number[] {
  const result: number[] = [];
  for (let at = 0; at < pieces.length; at++) {
    if (pieces[at] === left && pieces[at + 1] === right) {
      result.push(id);
      at++;
    } else result.push(pieces[at] as number);
  }
  return result;
}

interface Candidate {
  readonly key: number;
  readonly gain: number;
}

/** Binary heap, greatest gain first, then lowest key. */
class Queue {
  readonly #items: Candidate[] = [];

  push(item: Candidate): void {
    const items = this.#items;
    let at = items.length;
    items.push(item);
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (!comesFirst(item, items[above] as Candidate)) break;
      items[at] = items[above] as Candidate;
      at = above;
    }
    items[at] = item;
  }

  pop(): Candidate | undefined {
    const items = this.#items;
    const top = items[0];
    const last = items.pop();
    if (top === undefined || last === undefined || items.length === 0) return top;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      if (below >= items.length) break;
      if (below + 1 < items.length && comesFirst(items[below + 1] as Candidate, items[below] as Candidate)) below++;
      if (!comesFirst(items[below] as Candidate, last)) break;
      items[at] = items[below] as Candidate;
      at = below;
    }
    items[at] = last;
    return top;
  }
}

function comesFirst(a: Candidate, b: Candidate): boolean {
  return a.gain > b.gain || (a.gain === b.gain && a.key < b.key);
}
