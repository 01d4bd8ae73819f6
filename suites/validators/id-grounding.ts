import { defineValidator } from '../../src/kit/index.ts';
import { metricName, optionsSchema, stringList, strings } from './lib/scores.ts';
import { shapePattern } from './lib/text.ts';

/**
 * Rate; 1 = every id in the output stands in the case's input (its text fields). Shapes are written `AA-99999`:
 * `A` a capital letter, `9` a digit, all else itself.
 */
export default defineValidator({
  summary: 'Ids in the output occur in the input',
  version: '1.0.0',
  options: optionsSchema(
    {
      metric: metricName,
      shapes: { ...stringList, items: { type: 'string', minLength: 1, maxLength: 64 }, minItems: 1 },
    },
    ['shapes'],
  ),
  metrics: ['*'],
  validate: async ({ case: one, output, with: options }) => {
    const metric = typeof options['metric'] === 'string' ? options['metric'] : 'ids_grounded';
    const source = Object.values(one.input)
      .filter((value) => typeof value === 'string')
      .join('\n');
    const find = (text: string): ReadonlySet<string> =>
      new Set(strings(options['shapes']).flatMap((shape) => text.match(shapePattern(shape)) ?? []));
    const known = find(source);
    const stranger = [...find(output.text)].find((id) => !known.has(id));
    return {
      [metric]: stranger === undefined ? { value: 1 } : { value: 0, explanation: `${stranger} is not in the input` },
    };
  },
});
