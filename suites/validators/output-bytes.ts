import { defineValidator } from '../../src/kit/index.ts';
import { checkMembers, runCheck } from './lib/checks.ts';
import { metricName, optionsSchema, toScore } from './lib/scores.ts';

/** Rate; 1 = clean. What a page or a terminal would act on (OWASP LLM05 Improper Output Handling). */
export default defineValidator({
  summary: 'The output carries no HTML, terminal escapes, control or bidi characters',
  version: '1.0.0',
  options: optionsSchema({ metric: metricName, ...checkMembers('output-bytes') }),
  metrics: ['*'],
  validate: async (input) => {
    const result = runCheck('output-bytes', input);
    const metric = typeof input.with['metric'] === 'string' ? input.with['metric'] : 'clean_output';
    return result === null ? {} : { [metric]: toScore(result) };
  },
});
