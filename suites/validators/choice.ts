import type { Score } from '../../src/contracts/index.ts';
import { defineValidator } from '../../src/kit/index.ts';
import { clip, optionsSchema } from './lib/scores.ts';

/**
 * Multiple choice by log-likelihood, as lm-evaluation-harness counts it: `acc` takes the option with the highest sum of
 * natural-log probabilities, `acc_norm` the highest sum divided by the option's characters; the first wins a tie.
 * `target` is the index of the right option, or its text.
 */
export default defineValidator({
  summary: 'Multiple choice by log-likelihood: acc and acc_norm',
  version: '1.0.0',
  options: optionsSchema({}),
  metrics: ['acc', 'acc_norm'],
  validate: async ({ case: one, output }) => {
    const { options } = output;
    if (options === undefined || options.length === 0) return unscored('the output has no options');
    if (options.some(({ logLikelihood, characters }) => !Number.isFinite(logLikelihood) || !(characters > 0))) {
      return unscored('an option has no finite log-likelihood, or no characters');
    }
    const right = typeof one.target === 'number' ? one.target : options.findIndex(({ text }) => text === one.target);
    if (options[right] === undefined) return unscored('the target is none of the options');
    const grade = (values: readonly number[]): Score => {
      const best = values.indexOf(values.reduce((a, b) => Math.max(a, b)));
      return best === right ? { value: 1 } : { value: 0, explanation: `chose "${clip(options[best]?.text ?? '')}"` };
    };
    return {
      acc: grade(options.map(({ logLikelihood }) => logLikelihood)),
      acc_norm: grade(options.map(({ logLikelihood, characters }) => logLikelihood / characters)),
    };
  },
});

function unscored(explanation: string): { acc: Score; acc_norm: Score } {
  return { acc: { value: null, explanation }, acc_norm: { value: null, explanation } };
}
