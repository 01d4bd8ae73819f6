import { defineValidator } from '../../src/kit/index.ts';
import { checkMembers, runCheck } from './lib/checks.ts';
import { metricName, optionsSchema, toScore } from './lib/scores.ts';

/** Rate. The target is `target.state`; `ignore` names top-level members that may differ. */
export default defineValidator({
  summary: 'The final state of an episode equals the target state',
  version: '1.0.0',
  options: optionsSchema({ metric: metricName, ...checkMembers('state-equals') }),
  metrics: ['*'],
  validate: async (input) => {
    const result = runCheck('state-equals', input);
    const metric = typeof input.with['metric'] === 'string' ? input.with['metric'] : 'state_reached';
    return result === null ? {} : { [metric]: toScore(result) };
  },
});
