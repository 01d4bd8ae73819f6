import { checkAgainst, compileSchema, type JsonStyle, parseJsonObject } from '../../src/kit/index.ts';
import { classicalErrors } from './errors.ts';

/** `classical.json`, version 1, as checked. Fields are answered in their order; `by-field` looks at choices. */
export interface ClassicalFile {
  readonly version: 1;
  readonly trainer: string;
  readonly style: JsonStyle;
  readonly fields: readonly Field[];
  readonly features: { readonly terms: readonly string[]; readonly idf: readonly number[] } | null;
  readonly texts: readonly string[];
}

export type Field =
  | { readonly name: string; readonly form: 'copy'; readonly shapes: readonly string[]; readonly absent: null | '' }
  | {
      readonly name: string;
      readonly form: 'rules';
      readonly values: readonly unknown[];
      readonly rules: readonly { readonly cue: string; readonly value: number }[];
      readonly otherwise: number;
    }
  | {
      readonly name: string;
      readonly form: 'linear';
      readonly values: readonly unknown[];
      readonly weights: readonly (readonly number[])[];
      readonly bias: readonly number[];
    }
  | {
      readonly name: string;
      readonly form: 'by-field';
      readonly field: string;
      readonly answers: readonly { readonly value: unknown; readonly answer: unknown }[];
      readonly otherwise: unknown;
    }
  | { readonly name: string; readonly form: 'nearest'; readonly answers: readonly unknown[] };

const text = { type: 'string' };
const texts = { type: 'array', items: text };
const numbers = { type: 'array', items: { type: 'number' } };
const index = { type: 'integer', minimum: 0 };
const members = {
  copy: {
    shapes: { type: 'array', items: { type: 'string', minLength: 1, maxLength: 64 } },
    absent: { enum: [null, ''] },
  },
  rules: {
    values: { type: 'array', minItems: 1 },
    rules: {
      type: 'array',
      items: { type: 'object', required: ['cue', 'value'], properties: { cue: text, value: index } },
    },
    otherwise: index,
  },
  linear: { values: { type: 'array', minItems: 1 }, weights: { type: 'array', items: numbers }, bias: numbers },
  'by-field': {
    field: text,
    answers: { type: 'array', items: { type: 'object', required: ['value', 'answer'] } },
    otherwise: {},
  },
  nearest: { answers: { type: 'array', minItems: 1 } },
};
const validate = compileSchema(
  {
    type: 'object',
    required: ['version', 'trainer', 'style', 'fields', 'features', 'texts'],
    properties: {
      version: { const: 1 },
      trainer: text,
      style: {
        type: 'object',
        required: ['item', 'colon'],
        properties: { item: { enum: [',', ', '] }, colon: { enum: [':', ': '] } },
      },
      fields: {
        type: 'array',
        minItems: 1,
        items: {
          type: 'object',
          required: ['name', 'form'],
          properties: { name: text, form: { enum: Object.keys(members) } },
          allOf: Object.entries(members).map(([form, properties]) => ({
            anyOf: [
              { properties: { form: { not: { const: form } } } },
              { required: Object.keys(properties), properties },
            ],
          })),
        },
      },
      features: {
        anyOf: [
          { type: 'null' },
          { type: 'object', required: ['terms', 'idf'], properties: { terms: texts, idf: numbers } },
        ],
      },
      texts,
    },
  },
  'classical.json',
);

/** Parses and checks the file, sizes and indices too. @throws CUPEL_FIELD_INVALID, CUPEL_CLASSICAL_INVALID */
export function parseClassicalFile(content: string, path: string): ClassicalFile {
  const object = parseJsonObject(content);
  if (object === null) throw classicalErrors.CUPEL_CLASSICAL_INVALID({ message: 'not a JSON object', where: path });
  const file = checkAgainst<ClassicalFile>(validate, object, path);
  const terms = file.features?.terms.length ?? 0;
  if (file.features !== null && file.features.idf.length !== terms) {
    throw classicalErrors.CUPEL_CLASSICAL_INVALID({
      message: `${terms} terms and ${file.features.idf.length} weights`,
      where: `${path}: features`,
    });
  }
  for (const field of file.fields) {
    const fault = faultOf(field, terms, file.texts.length);
    if (fault !== null)
      throw classicalErrors.CUPEL_CLASSICAL_INVALID({ message: fault, where: `${path}: ${field.name}` });
  }
  return file;
}

function faultOf(field: Field, terms: number, documents: number): string | null {
  if (field.form === 'rules') {
    const stranger = [field.otherwise, ...field.rules.map(({ value }) => value)].find(
      (value) => value >= field.values.length,
    );
    return stranger === undefined ? null : `value ${stranger} of ${field.values.length}`;
  }
  if (field.form === 'linear') {
    const odd =
      field.weights.length !== terms ||
      field.bias.length !== field.values.length ||
      field.weights.some((row) => row.length !== field.values.length);
    return odd ? `weights do not fit ${terms} terms and ${field.values.length} values` : null;
  }
  if (field.form === 'nearest' && field.answers.length !== documents)
    return `${field.answers.length} answers for ${documents} texts`;
  return null;
}
