import { defineValidator } from '../../src/kit/index.ts';
import { checkMembers, runCheck } from './lib/checks.ts';
import { metricName, optionsSchema, toScore } from './lib/scores.ts';

/** Rate. Reads the calls from the trace, and only if its hash chain holds; text that looks like a call is no call. */
export default defineValidator({
  summary: 'The tool calls of an episode keep a policy of allowed, forbidden and required calls',
  version: '1.0.0',
  options: optionsSchema({ metric: metricName, ...checkMembers('tool-policy') }),
  metrics: ['*'],
  validate: async (input) => {
    const result = runCheck('tool-policy', input);
    const metric = typeof input.with['metric'] === 'string' ? input.with['metric'] : 'policy_kept';
    return result === null ? {} : { [metric]: toScore(result) };
  },
});
