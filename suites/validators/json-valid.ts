import type { Scores } from '../../src/contracts/index.ts';
import { compileSchema, defineValidator } from '../../src/kit/index.ts';
import { clip, optionsSchema } from './lib/scores.ts';
import { parseStrictJson } from './lib/strict-json.ts';

const compiled = new WeakMap<object, ReturnType<typeof compileSchema>>();

/**
 * `valid_json`: the whole text is one JSON value. `schema_valid` (with `schema`): it also satisfies the schema;
 * text that is no JSON satisfies none. Both are rates.
 */
export default defineValidator({
  summary: 'The whole output is JSON, and satisfies a schema',
  version: '1.0.0',
  options: optionsSchema({ schema: { type: 'object', description: 'JSON Schema, 2020-12.' } }),
  metrics: ['valid_json', 'schema_valid'],
  validate: async ({ output, with: options }) => {
    const parsed = parseStrictJson(output.text);
    const schema = options['schema'];
    const hasSchema = typeof schema === 'object' && schema !== null;
    if (!parsed.ok) {
      const score = { value: 0, explanation: parsed.reason };
      return { valid_json: score, ...(hasSchema ? { schema_valid: score } : {}) };
    }
    const scores: Scores = { valid_json: { value: 1 } };
    if (!hasSchema) return scores;
    const validate = compiled.get(schema) ?? compileSchema(schema, 'json-valid: schema');
    compiled.set(schema, validate);
    if (validate(parsed.value)) return { ...scores, schema_valid: { value: 1 } };
    const [error] = validate.errors ?? [];
    return {
      ...scores,
      schema_valid: {
        value: 0,
        explanation: clip(`${error?.instancePath ?? ''} ${error?.message ?? 'not valid'}`.trim()),
      },
    };
  },
});
