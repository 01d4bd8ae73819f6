import { defineValidator } from '../../src/kit/index.ts';
import { checkMembers, runCheck } from './lib/checks.ts';
import { metricName, optionsSchema, toScore } from './lib/scores.ts';

/** Rate; 1 = within. Characters, calls, one word repeated in a row, and whether the episode came to its own end. */
export default defineValidator({
  summary: 'The output and the tool calls stay within a budget',
  version: '1.0.0',
  options: optionsSchema({ metric: metricName, ...checkMembers('budget') }),
  metrics: ['*'],
  validate: async (input) => {
    const result = runCheck('budget', input);
    const metric = typeof input.with['metric'] === 'string' ? input.with['metric'] : 'within_budget';
    return result === null ? {} : { [metric]: toScore(result) };
  },
});
