import { defineValidator } from '../../src/kit/index.ts';
import { checkMembers, runCheck } from './lib/checks.ts';
import { metricName, optionsSchema, toScore } from './lib/scores.ts';

/** Rate. Accepted: `texts`, else `target` (a text or a list). `loose` ignores case, spacing and one final stop. */
export default defineValidator({
  summary: 'The output is one of the accepted texts',
  version: '1.0.0',
  options: optionsSchema({ metric: metricName, ...checkMembers('exact-text') }),
  metrics: ['*'],
  validate: async (input) => {
    const result = runCheck('exact-text', input);
    const metric = typeof input.with['metric'] === 'string' ? input.with['metric'] : 'exact';
    return result === null ? {} : { [metric]: toScore(result) };
  },
});
