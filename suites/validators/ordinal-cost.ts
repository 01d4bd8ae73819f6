import { defineValidator } from '../../src/kit/index.ts';
import { clip, metricName, optionsSchema, stringList } from './lib/scores.ts';
import { own, parseObject } from './lib/strict-json.ts';

interface Options {
  readonly metric: string;
  readonly field: string;
  readonly levels: readonly string[];
  readonly cost: readonly (readonly number[])[];
}

/**
 * Mean cost of confusing ordered levels, `cost[target][answer]`; lower is better. Asymmetric on purpose:
 * taking a critical ticket for a low one costs more than the other way round.
 * An answer that cannot be read, or is no level, costs as much as the worst of its row.
 */
export default defineValidator({
  summary: 'Cost of confusing ordered levels, by a matrix of target and answer',
  version: '1.0.0',
  options: optionsSchema(
    {
      metric: metricName,
      field: { type: 'string', minLength: 1 },
      levels: { ...stringList, minItems: 2 },
      cost: {
        type: 'array',
        minItems: 2,
        items: { type: 'array', minItems: 2, items: { type: 'number', minimum: 0 } },
      },
    },
    ['metric', 'field', 'levels', 'cost'],
  ),
  metrics: ['*'],
  validate: async ({ case: one, output, with: given }) => {
    const { metric, field, levels, cost } = given as unknown as Options;
    const target = own(one.target, field);
    if (target === undefined) return {};
    const row = cost[levels.indexOf(String(target))];
    if (row === undefined)
      return { [metric]: { value: null, explanation: `the target ${clip(String(target))} is no level` } };
    const answer = own(parseObject(output.text), field);
    const index = typeof answer === 'string' ? levels.indexOf(answer) : -1;
    const value = row[index] ?? Math.max(...row);
    const said = index >= 0 ? String(answer) : 'no level';
    return { [metric]: value === 0 ? { value } : { value, explanation: `${said} for ${String(target)}` } };
  },
});
