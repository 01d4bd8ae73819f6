import type { Score } from '../../src/contracts/index.ts';
import { defineValidator } from '../../src/kit/index.ts';
import { checkMembers, checkNames, runCheck } from './lib/checks.ts';
import { metricName, optionsSchema, passed, toScore } from './lib/scores.ts';
import type { CheckName } from './lib/checks.ts';

interface Use {
  readonly check: CheckName;
  readonly with?: Readonly<Record<string, unknown>>;
}

/**
 * Rate; 1 = every check passes. One that fails decides, whatever could not be decided; else one that
 * could not be decided leaves the case unscored. Checks that do not apply to a case are left out.
 */
export default defineValidator({
  summary: 'Several checks together: all must pass',
  version: '1.0.0',
  options: optionsSchema(
    {
      metric: metricName,
      checks: {
        type: 'array',
        minItems: 1,
        items: {
          oneOf: checkNames.map((name) =>
            optionsSchema({ check: { const: name }, with: optionsSchema(checkMembers(name)) }, ['check']),
          ),
        },
      },
    },
    ['metric', 'checks'],
  ),
  metrics: ['*'],
  validate: async (input) => {
    const uses = input.with['checks'] as readonly Use[];
    const results = uses.flatMap((use) => runCheck(use.check, { ...input, with: use.with ?? {} }) ?? []);
    const decisive = results.find(({ pass }) => pass === false) ?? results.find(({ pass }) => pass === null) ?? passed;
    const score: Score = toScore(decisive);
    return { [String(input.with['metric'])]: score };
  },
});
