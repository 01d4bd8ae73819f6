import { defineValidator } from '../../src/kit/index.ts';
import { same } from './lib/same.ts';
import { metricName, optionsSchema } from './lib/scores.ts';
import { own, parseObject } from './lib/strict-json.ts';

interface Rule {
  readonly name: string;
  readonly if: Readonly<Record<string, unknown>>;
  readonly then: Readonly<Record<string, unknown>>;
}

const condition = { type: 'object', description: 'Field to value, or to a list of accepted values.' };

/** Rate; 1 = the output breaks no rule. Says nothing of being right: a consistent answer may be wrong. Needs no target. */
export default defineValidator({
  summary: 'If-then rules between the fields of a JSON output',
  version: '1.0.0',
  options: optionsSchema(
    {
      metric: metricName,
      rules: {
        type: 'array',
        minItems: 1,
        items: optionsSchema({ name: { type: 'string' }, if: condition, then: condition }, ['name', 'if', 'then']),
      },
    },
    ['metric', 'rules'],
  ),
  metrics: ['*'],
  validate: async ({ output, with: options }) => {
    const metric = String(options['metric']);
    const answer = parseObject(output.text);
    if (answer === null) return { [metric]: { value: 0, explanation: 'not a JSON object' } };
    const holds = (wanted: Readonly<Record<string, unknown>>): boolean =>
      Object.entries(wanted).every(([field, value]) =>
        (Array.isArray(value) ? value : [value]).some((one) => same(own(answer, field), one)),
      );
    const broken = (options['rules'] as readonly Rule[]).find((rule) => holds(rule.if) && !holds(rule.then));
    return { [metric]: broken === undefined ? { value: 1 } : { value: 0, explanation: `breaks: ${broken.name}` } };
  },
});
