import { Random, wordsOf } from '../kit/index.ts';

const permutations = 128;
/** 16 bands of 8: texts of Jaccard similarity 0.8 share a band with probability 0.95, of 0.5 with 0.06. */
const rowsPerBand = 8;
const bands = permutations / rowsPerBand;
/** Most texts of a bucket that a new one is compared with, so that many alike stay cheap. */
const comparedPerBucket = 8;

const random = new Random(1, 'min-hash');
const multipliers = Int32Array.from({ length: permutations }, () => random.uint32() | 1);
const offsets = Int32Array.from({ length: permutations }, () => random.uint32());

/** Texts by what they have in common: finds those that share at least a given part of their word 3-grams. */
export class SimilarTexts {
  readonly #threshold: number;
  readonly #grams: Uint32Array[] = [];
  readonly #buckets = Array.from({ length: bands }, () => new Map<number, number[]>());

  /** @param threshold least Jaccard similarity, from 0 to 1. */
  constructor(threshold: number) {
    this.#threshold = threshold;
  }

  /**
   * Adds a text. Returns the index (in order of addition) of an earlier one that is as similar as the threshold asks, or
   * null. Candidates are found by MinHash (Broder 1997) and compared exactly; a similar text is missed in about one of
   * twenty cases at the threshold, and hardly ever above 0.9.
   */
  add(text: string): number | null {
    const grams = gramsOf(text);
    const keys = bandsOf(grams);
    const found = this.#search(grams, keys);
    const index = this.#grams.length;
    this.#grams.push(grams);
    if (grams.length === 0) return null;
    for (const [band, key] of keys.entries()) {
      const bucket = this.#buckets[band]?.get(key);
      if (bucket === undefined) this.#buckets[band]?.set(key, [index]);
      else if (bucket.length < comparedPerBucket && found === null) bucket.push(index);
    }
    return found;
  }

  /** As `add`, and adds nothing. */
  find(text: string): number | null {
    const grams = gramsOf(text);
    return this.#search(grams, bandsOf(grams));
  }

  #search(grams: Uint32Array, keys: Uint32Array): number | null {
    if (grams.length === 0) return null;
    const seen = new Set<number>();
    for (const [band, key] of keys.entries()) {
      for (const candidate of this.#buckets[band]?.get(key) ?? []) {
        if (seen.has(candidate)) continue;
        seen.add(candidate);
        if (jaccard(grams, this.#grams[candidate] as Uint32Array) >= this.#threshold) return candidate;
      }
    }
    return null;
  }
}

/** Writing without spaces between words: a character of it counts as a word. */
const unspaced = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}]/u;

/** Sorted distinct hashes of the word 3-grams of a text; of a shorter text the hash of its words together. */
function gramsOf(text: string): Uint32Array {
  const words = wordsOf(text).flatMap((word) => (unspaced.test(word) ? [...word] : [word]));
  if (words.length === 0) return new Uint32Array(0);
  const hashes = new Set<number>();
  for (let start = 0; start < Math.max(1, words.length - 2); start++)
    hashes.add(hashOf(words.slice(start, start + 3).join(' ')));
  return Uint32Array.from(hashes).sort();
}

/** FNV-1a over the UTF-16 units, mixed as the end of MurmurHash3. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** One number a band: equal where all least values of the band are equal. */
function bandsOf(grams: Uint32Array): Uint32Array {
  const keys = new Uint32Array(bands);
  for (let permutation = 0; permutation < permutations; permutation++) {
    const multiplier = multipliers[permutation] as number;
    const offset = offsets[permutation] as number;
    let least = 0xffffffff;
    for (let index = 0; index < grams.length; index++) {
      const value = (Math.imul(grams[index] as number, multiplier) + offset) >>> 0;
      if (value < least) least = value;
    }
    const band = Math.floor(permutation / rowsPerBand);
    keys[band] = Math.imul((keys[band] as number) ^ least, 0x01000193) + 0x9e3779b9;
  }
  return keys;
}

function jaccard(one: Uint32Array, other: Uint32Array): number {
  let [shared, left, right] = [0, 0, 0];
  while (left < one.length && right < other.length) {
    const [a, b] = [one[left] as number, other[right] as number];
    if (a === b) shared++;
    if (a <= b) left++;
    if (b <= a) right++;
  }
  return shared / (one.length + other.length - shared);
}
