import { expect, it } from 'vitest';
import type { ScoreRequest, TextScoreRequest } from '../../src/contracts/index.ts';
import judge from '../../judges/log-likelihood.ts';
import { byteModel } from '../train/byte-model.ts';

/** Each token of a continuation is as likely as its share of the letters of the context says: checkable by hand. */
const model = {
  ...byteModel,
  score: async (requests: readonly ScoreRequest[]) =>
    (requests as readonly TextScoreRequest[]).map(({ context, continuation }) => ({
      logProbabilities: [...continuation].map((letter) =>
        Math.log([...context].filter((one) => one === letter).length / context.length),
      ),
      isGreedy: [...continuation].map(() => false),
    })),
};
const verdict = async (first: string, second: string) =>
  (await judge.judge([{ id: 'x', prompt: 'aaab', first, second }], { model }))[0];

it('prefers what is likelier a token, by the logistic of the difference', async () => {
  // exp(mean) is 3/4 and 1/4: odds of 1 to 3.
  expect((await verdict('a', 'b'))?.preferSecond).toBeCloseTo(0.25, 12);
  expect((await verdict('b', 'a'))?.preferSecond).toBeCloseTo(0.75, 12);
  expect((await verdict('a', 'aaaaaaaa'))?.preferSecond).toBe(0.5);
  expect((await verdict('ab', 'ba'))?.preferSecond).toBeCloseTo(0.5, 12);
});

it('calls an answer of probability 0 missing', async () => {
  expect(await verdict('a', 'z')).toEqual({ id: 'x', preferSecond: null, explanation: 'no finite log-likelihood' });
});
