import fc from 'fast-check';
import { expect, it } from 'vitest';
import { chooseTokens } from '../../../src/train/vocabulary/choose-tokens.ts';
import type { CountedWord } from '../../../src/train/vocabulary/words.ts';

const word = fc.record({
  pieces: fc.array(fc.nat(4), { minLength: 2, maxLength: 9 }),
  count: fc.integer({ min: 1, max: 20 }),
});
const choose = (words: readonly CountedWord[], tokens = 8, minimumCount = 2): ReturnType<typeof chooseTokens> =>
  chooseTokens(words, { tokens, minimumCount, firstId: 5, taken: () => false });

/** Joins pairs from left to right, as a tokenizer does with one merge. */
function join(pieces: readonly number[], left: number, right: number, id: number): number[] {
  const result: number[] = [];
  for (let at = 0; at < pieces.length; at++) {
    const hit = pieces[at] === left && pieces[at + 1] === right;
    result.push(hit ? id : (pieces[at] as number));
    if (hit) at++;
  }
  return result;
}

const size = (words: readonly (readonly number[])[], counted: readonly CountedWord[]): number =>
  words.reduce((sum, pieces, index) => sum + pieces.length * (counted[index]?.count ?? 0), 0);

it('each token saves what it is said to save, and no other pair would have saved more', () => {
  fc.assert(
    fc.property(fc.array(word, { minLength: 1, maxLength: 8 }), (counted) => {
      let words: (readonly number[])[] = counted.map(({ pieces }) => pieces);
      for (const { id, left, right, saved } of choose(counted)) {
        const before = size(words, counted);
        const pairs = new Set(words.flatMap((pieces) => pieces.slice(1).map((next, at) => `${pieces[at]} ${next}`)));
        const gains = [...pairs].map((pair) => {
          const [a = 0, b = 0] = pair.split(' ').map(Number);
          return (
            before -
            size(
              words.map((pieces) => join(pieces, a, b, id)),
              counted,
            )
          );
        });
        expect(saved).toBe(Math.max(...gains));
        words = words.map((pieces) => join(pieces, left, right, id));
        expect(before - size(words, counted)).toBe(saved);
      }
    }),
  );
});

it('a token stands for its old pieces, in order', () => {
  const chosen = choose([{ pieces: [0, 1, 2, 3], count: 7 }]);
  expect(chosen.map(({ id, pieces, saved }) => [id, pieces, saved])).toEqual([
    [5, [0, 1], 7],
    [6, [2, 3], 7],
    [7, [0, 1, 2, 3], 7],
  ]);
});

it('stops where nothing occurs often enough, and passes over what is there already', () => {
  expect(choose([{ pieces: [0, 1], count: 4 }], 8, 5)).toEqual([]);
  const options = {
    tokens: 8,
    minimumCount: 2,
    firstId: 5,
    taken: (pieces: readonly number[]) => pieces.join() === '0,1',
  };
  expect(chooseTokens([{ pieces: [0, 1, 2], count: 4 }], options).map(({ pieces }) => pieces)).toEqual([
    [1, 2],
    [0, 1, 2],
  ]);
});
