import type { TrainingMessage, TrainingRow } from '../contracts/index.ts';
import { checkAgainst, compileSchema, digestOf, parseJsonl, readText } from '../kit/index.ts';
import { dataErrors } from './errors.ts';

const message = {
  type: 'object',
  additionalProperties: false,
  required: ['role', 'content'],
  properties: {
    role: { enum: ['system', 'user', 'assistant', 'tool'] },
    content: { type: 'string' },
    weight: { type: 'number', minimum: 0, maximum: 1 },
  },
};
const messages = { type: 'array', minItems: 1, items: message };
const answerText = { anyOf: [{ type: 'string' }, { type: 'array', minItems: 1, maxItems: 1, items: message }] };

const validateRow = compileSchema(
  {
    type: 'object',
    additionalProperties: false,
    properties: {
      id: { type: 'string', minLength: 1 },
      tags: { type: 'array', items: { type: 'string' } },
      messages,
      prompt: { anyOf: [{ type: 'string', minLength: 1 }, messages] },
      chosen: answerText,
      rejected: answerText,
      text: { type: 'string' },
    },
  },
  'training row',
);

interface RawRow {
  readonly id?: string;
  readonly tags?: readonly string[];
  readonly messages?: readonly TrainingMessage[];
  readonly prompt?: string | readonly TrainingMessage[];
  readonly chosen?: string | readonly TrainingMessage[];
  readonly rejected?: string | readonly TrainingMessage[];
  readonly text?: string;
}

/**
 * Reads training rows from JSONL: `{messages}`, `{prompt, chosen, rejected}` (texts or message lists) or `{text}`, each
 * with optional `id` and `tags`. A row without id is called `line-<n>`.
 * @throws CUPEL_FILE_*, CUPEL_JSONL_INVALID, CUPEL_FIELD_*, CUPEL_DATA_*, with file:line.
 */
export async function readTrainingRows(file: string): Promise<TrainingRow[]> {
  return parseTrainingRows(await readText(file), file);
}

/** As `readTrainingRows`, from text; `file` is used in messages. */
export function parseTrainingRows(text: string, file: string): TrainingRow[] {
  const seen = new Map<string, number>();
  const rows = parseJsonl(text, file).map(({ line, value }) => {
    const where = `${file}:${line}`;
    const row = toRow(checkAgainst<RawRow>(validateRow, value, where), `line-${line}`, where);
    const before = seen.get(row.id);
    if (before !== undefined) {
      throw dataErrors.CUPEL_DATA_DUPLICATE_ID({ message: `id "${row.id}" is also that of line ${before}`, where });
    }
    seen.set(row.id, line);
    return row;
  });
  if (rows.length === 0) throw dataErrors.CUPEL_DATA_NO_ROWS({ message: 'no rows', where: file });
  return rows;
}

/** JSONL that `parseTrainingRows` reads back to equal rows. */
export function formatTrainingRows(rows: readonly TrainingRow[]): string {
  return rows.map((row) => `${JSON.stringify({ ...row, kind: undefined })}\n`).join('');
}

/** `sha256:<hex>` over the canonical rows, in their order. */
export function digestRows(rows: readonly TrainingRow[]): string {
  return digestOf(rows);
}

function toRow(raw: RawRow, fallbackId: string, where: string): TrainingRow {
  const id = raw.id ?? fallbackId;
  const preference = raw.prompt !== undefined || raw.chosen !== undefined || raw.rejected !== undefined;
  const kinds = [
    raw.messages !== undefined ? 'messages' : '',
    preference ? 'prompt, chosen, rejected' : '',
    raw.text !== undefined ? 'text' : '',
  ];
  const found = kinds.filter((kind) => kind !== '');
  if (found.length !== 1) {
    throw dataErrors.CUPEL_DATA_ROW_KIND({
      message: found.length === 0 ? 'no known kind of row' : `more than one kind of row: ${found.join(' and ')}`,
      where,
    });
  }
  if (raw.text !== undefined) return { id, kind: 'text', text: filled(raw.text, 'text', where) };
  if (raw.messages !== undefined) {
    const last = raw.messages.at(-1);
    if (last?.role !== 'assistant') {
      throw dataErrors.CUPEL_DATA_EMPTY_TARGET({
        message: `the last message is of role "${last?.role ?? 'none'}", not assistant`,
        where,
      });
    }
    for (const one of raw.messages)
      if (one.role === 'assistant' && one.weight !== 0) filled(one.content, 'an assistant message', where);
    return { id, kind: 'messages', messages: raw.messages };
  }
  const missing = (['prompt', 'chosen', 'rejected'] as const).find((name) => raw[name] === undefined);
  if (missing !== undefined)
    throw dataErrors.CUPEL_DATA_ROW_KIND({ message: `a preference row without "${missing}"`, where });
  const prompt = typeof raw.prompt === 'string' ? [{ role: 'user' as const, content: raw.prompt }] : (raw.prompt ?? []);
  const chosen = filled(textOf(raw.chosen), 'chosen', where);
  const rejected = filled(textOf(raw.rejected), 'rejected', where);
  return { id, kind: 'preference', prompt, chosen, rejected, ...(raw.tags === undefined ? {} : { tags: raw.tags }) };
}

function textOf(answer: RawRow['chosen']): string {
  return typeof answer === 'string' ? answer : (answer?.[0]?.content ?? '');
}

function filled(text: string, what: string, where: string): string {
  if (text.trim() !== '') return text;
  throw dataErrors.CUPEL_DATA_EMPTY_TARGET({ message: `${what} is empty`, where });
}
