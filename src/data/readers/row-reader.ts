import type { TrainingRow } from '../../contracts/index.ts';

/** A row but for its id and tags. */
export type RowContent = TrainingRow extends infer Row
  ? Row extends TrainingRow
    ? Omit<Row, 'id' | 'tags'>
    : never
  : never;

/** What a format calls itself in reports. */
export type RowFormat =
  | 'text'
  | 'messages'
  | 'prompt-completion'
  | 'preference'
  | 'implicit-preference'
  | 'unpaired'
  | 'messages-preference'
  | 'messages-unpaired'
  | 'openai-preference'
  | 'alpaca'
  | 'alpaca-preference'
  | 'alpaca-unpaired'
  | 'sharegpt'
  | 'sharegpt-preference'
  | 'sharegpt-unpaired';

export interface ReadRow {
  readonly format: RowFormat;
  readonly content: RowContent;
}

/** Reads the rows of one family of formats. */
export interface RowReader {
  /** Fields of which one says that a row belongs to the family. */
  readonly marks: readonly string[];
  /** Every field that the family has. */
  readonly fields: readonly string[];
  /** The field that a column of another name stands for in this row: left out, the row would lose what it says. */
  misnamed?(column: string, row: Readonly<Record<string, unknown>>): string | undefined;
  /** @throws CUPEL_FIELD_*, CUPEL_DATA_* with `where`. */
  read(raw: Readonly<Record<string, unknown>>, where: string): ReadRow;
}

/** Fields of every format. */
export const commonFields = {
  id: { type: ['string', 'integer'], minLength: 1 },
  tags: { type: ['array', 'string'], items: { type: 'string' } },
} as const;

/** JSON Schema of a row with these fields and the common ones, and no other. */
export function rowSchema(properties: Readonly<Record<string, unknown>>, required: readonly string[]): object {
  return {
    type: 'object',
    additionalProperties: false,
    required,
    properties: { ...commonFields, ...properties },
  };
}
