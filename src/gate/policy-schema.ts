/** JSON Schema of a policy file. Ranges are those of `contracts/gate.ts`. */
const metric = { type: 'string', pattern: '^[^/\\s]+/[^/\\s]+$' } as const;

export const policySchema = {
  type: 'object',
  additionalProperties: false,
  required: ['version', 'primary'],
  properties: {
    version: { const: 1 },
    alpha: { type: 'number', exclusiveMinimum: 0, exclusiveMaximum: 0.5 },
    cluster: { enum: ['cluster', 'case'] },
    primary: {
      type: 'object',
      additionalProperties: false,
      required: ['metric'],
      properties: { metric, minEffect: { type: 'number', minimum: 0 } },
    },
    guards: {
      type: 'object',
      additionalProperties: false,
      properties: {
        critical: {
          type: 'array',
          items: {
            type: 'object',
            additionalProperties: false,
            required: ['metric', 'margin'],
            properties: { metric, margin: { type: 'number', exclusiveMinimum: 0 }, absolute: { type: 'number' } },
          },
        },
        watch: {
          type: 'array',
          items: { type: 'object', additionalProperties: false, required: ['metric'], properties: { metric } },
        },
      },
    },
    missing: {
      type: 'object',
      additionalProperties: false,
      required: ['max'],
      properties: { max: { type: 'number', minimum: 0, maximum: 1 } },
    },
    bootstrap: {
      type: 'object',
      additionalProperties: false,
      properties: {
        resamples: { type: 'integer', minimum: 200, maximum: 100000 },
        seed: { type: 'integer', minimum: 0 },
      },
    },
  },
} as const;
