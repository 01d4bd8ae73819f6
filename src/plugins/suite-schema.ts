/** JSON Schemas (2020-12) of suite.yaml and of one case. */

const text = { type: 'string', minLength: 1, maxLength: 100_000 };
const name = { type: 'string', pattern: '^[a-z][a-z0-9]*(-[a-z0-9]+)*$', maxLength: 64 };
const object = { type: 'object' };
const closed = (
  properties: Readonly<Record<string, unknown>>,
  required: readonly string[],
): Record<string, unknown> => ({
  type: 'object',
  properties,
  required,
  additionalProperties: false,
});

const message = closed(
  {
    role: { enum: ['system', 'user', 'assistant', 'tool'] },
    content: { type: 'string', maxLength: 100_000 },
    name: text,
  },
  ['role', 'content'],
);

const validatorUse = closed({ use: { type: 'string', pattern: '^[A-Za-z0-9._/-]+$', maxLength: 200 }, with: object }, [
  'use',
]);

const prompt = closed(
  {
    messages: { type: 'array', items: message, minItems: 1, maxItems: 64 },
    fewShot: { type: 'array', items: closed({ input: object, output: text }, ['input', 'output']), maxItems: 64 },
  },
  ['messages'],
);

const decoding = closed(
  {
    maxTokens: { type: 'integer', minimum: 1, maximum: 1_000_000 },
    jsonSchema: object,
    stop: { type: 'array', items: text, maxItems: 16 },
    sampling: closed(
      {
        temperature: { type: 'number', minimum: 0, maximum: 100 },
        topK: { type: 'integer', minimum: 1 },
        topP: { type: 'number', exclusiveMinimum: 0, maximum: 1 },
        minP: { type: 'number', minimum: 0, maximum: 1 },
        repetitionPenalty: { type: 'number', exclusiveMinimum: 0, maximum: 100 },
        presencePenalty: { type: 'number', minimum: -100, maximum: 100 },
        frequencyPenalty: { type: 'number', minimum: -100, maximum: 100 },
        logitBias: {
          type: 'object',
          propertyNames: { pattern: '^\\d{1,9}$' },
          additionalProperties: { type: 'number', minimum: -100, maximum: 100 },
        },
      },
      ['temperature'],
    ),
  },
  ['maxTokens'],
);

const metric = closed(
  {
    name: { type: 'string', pattern: '^[a-z][a-z0-9_]*$', maxLength: 64 },
    title: text,
    direction: { enum: ['higher', 'lower'] },
    kind: { enum: ['rate', 'mean'] },
    weight: { enum: ['primary', 'normal', 'detail'] },
    derived: { enum: ['twin'] },
  },
  ['name', 'title', 'direction', 'kind'],
);

const reference = closed(
  {
    id: name,
    title: text,
    output: { oneOf: [closed({ text: { type: 'string' } }, ['text']), closed({ inputField: text }, ['inputField'])] },
  },
  ['id', 'title', 'output'],
);

const tool = closed(
  { name: { type: 'string', pattern: '^[A-Za-z_][A-Za-z0-9_]*$' }, description: text, parameters: object },
  ['name', 'description', 'parameters'],
);

const splitName = { type: 'string', pattern: '^[a-z][a-z0-9-]*$', maxLength: 64 };

const properties = {
  $schema: text,
  extends: text,
  id: name,
  version: { type: 'string', pattern: '^\\d+\\.\\d+\\.\\d+$' },
  layer: { enum: ['A', 'B', 'C', 'D', 'E'] },
  title: text,
  licence: text,
  task: { enum: ['generate', 'choice', 'pairwise', 'episode'] },
  prompt,
  decoding,
  validators: { type: 'array', items: validatorUse, maxItems: 64 },
  metrics: { type: 'array', items: metric, minItems: 1, maxItems: 128 },
  splits: { type: 'object', propertyNames: splitName, additionalProperties: text, minProperties: 1 },
  references: { type: 'array', items: reference, maxItems: 16 },
  pairwise: closed({ judge: text, of: name, field: text, calibrated: { type: 'boolean' } }, [
    'judge',
    'of',
    'field',
    'calibrated',
  ]),
  world: name,
  tools: { type: 'array', items: tool, maxItems: 64 },
  maxTurns: { type: 'integer', minimum: 1, maximum: 64 },
  /** Shapes of `input` and `target` of every case. */
  case: closed({ input: object, target: object }, []),
};

/** A suite.yaml after `extends` has been resolved. */
export const suiteSchema = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  ...closed(properties, [
    'id',
    'version',
    'layer',
    'title',
    'licence',
    'task',
    'prompt',
    'decoding',
    'validators',
    'metrics',
  ]),
};

/**
 * A suite.yaml as it stands on disk: with `extends` only `id` is required, the rest is inherited.
 * `prompt` and `decoding` are merged member by member, so their required members are checked afterwards.
 */
export const suiteFileSchema = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  ...closed({ ...properties, prompt: { ...prompt, required: [] }, decoding: { ...decoding, required: [] } }, ['id']),
};

/** One case of a YAML or JSONL file. */
export const caseSchema = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  ...closed(
    {
      id: { type: 'string', pattern: '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$' },
      input: object,
      target: {},
      cluster: { type: 'string', minLength: 1, maxLength: 200 },
      tags: { type: 'array', items: { type: 'string', minLength: 1, maxLength: 200 }, maxItems: 64 },
      examples: closed(
        { pass: { type: 'array', items: { type: 'string' } }, fail: { type: 'array', items: { type: 'string' } } },
        [],
      ),
      validators: { type: 'array', items: validatorUse, maxItems: 16 },
      twin: text,
      /** For people; not part of the case's digest. */
      note: text,
    },
    ['id', 'input'],
  ),
};
