/**
 * Counter-based random numbers: value i of a key is a pure function of (key, i), so streams can be
 * split by name and never depend on the order of use. Philox4x32-10 (Salmon et al. 2011,
 * "Parallel random numbers: as easy as 1, 2, 3"), as in Random123.
 */
export class Random {
  #counter = 0;
  #block: number[] = [];
  readonly #key: readonly [number, number];
  readonly #stream: readonly [number, number];

  /** @param seed any integer; @param stream a name, so that uses of one seed are independent. */
  constructor(seed: number, stream = '') {
    this.#key = [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0];
    this.#stream = fnv64(stream);
  }

  /** Integer in [0, 2^32). */
  uint32(): number {
    if (this.#block.length === 0) {
      const low = this.#counter >>> 0;
      const high = Math.floor(this.#counter / 2 ** 32) >>> 0;
      this.#block = philox([low, high, this.#stream[0], this.#stream[1]], this.#key).reverse();
      this.#counter++;
    }
    return this.#block.pop() as number;
  }

  /** Real in [0, 1) with 53 bits. */
  next(): number {
    const high = this.uint32() >>> 5;
    const low = this.uint32() >>> 6;
    return (high * 67108864 + low) / 9007199254740992;
  }

  /** Integer in [0, bound), unbiased. */
  integer(bound: number): number {
    const limit = Math.floor(2 ** 32 / bound) * bound;
    for (;;) {
      const value = this.uint32();
      if (value < limit) return value % bound;
    }
  }

  /** True with the given probability. */
  chance(probability: number): boolean {
    return this.next() < probability;
  }

  /** One of the items; the list must not be empty. */
  pick<T>(items: readonly T[]): T {
    return items[this.integer(items.length)] as T;
  }

  /** A new list in random order (Fisher-Yates). */
  shuffle<T>(items: readonly T[]): T[] {
    const result = [...items];
    for (let i = result.length - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      [result[i], result[j]] = [result[j] as T, result[i] as T];
    }
    return result;
  }

  /** Standard normal (Box-Muller, first of the pair). */
  normal(): number {
    const u = 1 - this.next();
    return Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * this.next());
  }
}

/** The block function: 4 × 32 bits from a counter and a key. */
export function philox(counter: readonly [number, number, number, number], key: readonly [number, number]): number[] {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const [h0, l0] = multiply(0xd2511f53, c0);
    const [h1, l1] = multiply(0xcd9e8d57, c2);
    [c0, c1, c2, c3] = [(h1 ^ c1 ^ k0) >>> 0, l1, (h0 ^ c3 ^ k1) >>> 0, l0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** 32 × 32 → 64 bits as [high, low]. */
function multiply(a: number, b: number): [number, number] {
  const low = Math.imul(a, b) >>> 0;
  const [al, ah, bl, bh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = ah * bl + ((al * bl) >>> 16);
  const high = ah * bh + Math.floor((middle + al * bh) / 65536);
  return [high >>> 0, low];
}

/** FNV-1a, two lanes. */
function fnv64(text: string): [number, number] {
  let [a, b] = [0x811c9dc5, 0x050c5d1f];
  for (const byte of Buffer.from(text, 'utf8')) {
    a = Math.imul(a ^ byte, 0x01000193) >>> 0;
    b = Math.imul(b ^ (byte + 97), 0x01000193) >>> 0;
  }
  return [a, b];
}
