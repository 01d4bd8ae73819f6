import { defineJudge } from '../src/kit/index.ts';
import type { JudgeVerdict, Message } from '../src/contracts/index.ts';
import { judgeErrors } from './errors.ts';

/**
 * The answer with the larger reward: the degree is the probability of Bradley and Terry's model, σ(r_second − r_first),
 * under which the `reward` trainer learned. It says what the pairs of its training preferred; without a calibration card
 * it informs and never gates. Empty answers are missing, not lost.
 * @throws CUPEL_JUDGE_NO_REWARDS where the model has no reward head
 */
export default defineJudge({
  summary: 'Bradley-Terry probability from the rewards of the model that is handed over',
  version: '1.0.0',
  async judge(pairs, { model, signal }) {
    if (model.rewards === undefined) {
      throw judgeErrors.CUPEL_JUDGE_NO_REWARDS({ message: 'the checkpoint of the judge has no reward head' });
    }
    signal?.throwIfAborted();
    const asked = pairs.filter(({ first, second }) => first.trim() !== '' && second.trim() !== '');
    const conversations = asked.flatMap(({ prompt, first, second }) =>
      [first, second].map((answer): Message[] => [
        { role: 'user', content: prompt },
        { role: 'assistant', content: answer },
      ]),
    );
    const rewards = conversations.length === 0 ? [] : await model.rewards(conversations);
    const found = new Map(
      asked.map(({ id }, index) => [id, [rewards[2 * index] ?? NaN, rewards[2 * index + 1] ?? NaN] as const]),
    );
    return pairs.map(({ id }): JudgeVerdict => {
      const pair = found.get(id);
      if (pair === undefined) return { id, preferSecond: null, explanation: 'an answer is empty' };
      const [first, second] = pair;
      if (!Number.isFinite(first) || !Number.isFinite(second))
        return { id, preferSecond: null, explanation: 'no finite reward' };
      return {
        id,
        preferSecond: 1 / (1 + Math.exp(first - second)),
        explanation: `rewards ${first.toFixed(4)} and ${second.toFixed(4)}`,
      };
    });
  },
});
