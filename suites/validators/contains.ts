import { defineValidator } from '../../src/kit/index.ts';
import { checkMembers, runCheck } from './lib/checks.ts';
import { metricName, optionsSchema, toScore } from './lib/scores.ts';

/** Rate. Case is ignored unless `caseSensitive`. */
export default defineValidator({
  summary: 'The output contains all, any and none of given texts',
  version: '1.0.0',
  options: optionsSchema({ metric: metricName, ...checkMembers('contains') }),
  metrics: ['*'],
  validate: async (input) => {
    const result = runCheck('contains', input);
    const metric = typeof input.with['metric'] === 'string' ? input.with['metric'] : 'contains';
    return result === null ? {} : { [metric]: toScore(result) };
  },
});
