import { defineJudge } from '../src/kit/index.ts';
import type { JudgeVerdict, ScoreResult } from '../src/contracts/index.ts';

/**
 * The answer that the model itself finds more likely after the prompt, per token: the degree is the logistic function of
 * the difference of mean token log-likelihoods. It measures what the model expects, not what is true or helpful; without
 * a calibration card it informs and never gates. Empty answers and scores that are not finite are missing, not lost.
 */
export default defineJudge({
  summary: 'Length-normalised log-likelihood of each answer under the model that is handed over',
  version: '1.0.0',
  async judge(pairs, { model, signal }) {
    const asked = pairs.filter(({ first, second }) => first.trim() !== '' && second.trim() !== '');
    const requests = asked.flatMap(({ prompt, first, second }) =>
      [first, second].map((continuation) => ({ context: prompt, continuation })),
    );
    const results = requests.length === 0 ? [] : await model.score(requests, signal);
    const means = new Map(
      asked.map(({ id }, index) => [id, [meanOf(results[2 * index]), meanOf(results[2 * index + 1])] as const]),
    );
    return pairs.map(({ id }): JudgeVerdict => {
      const pair = means.get(id);
      if (pair === undefined) return { id, preferSecond: null, explanation: 'an answer is empty' };
      const [first, second] = pair;
      if (first === null || second === null) return { id, preferSecond: null, explanation: 'no finite log-likelihood' };
      return {
        id,
        preferSecond: 1 / (1 + Math.exp(first - second)),
        explanation: `mean log-likelihood a token ${first.toFixed(4)} and ${second.toFixed(4)}`,
      };
    });
  },
});

function meanOf(result: ScoreResult | undefined): number | null {
  const values = result?.logProbabilities ?? [];
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Number.isFinite(mean) ? mean : null;
}
