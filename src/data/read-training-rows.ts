import type { TrainingRow } from '../contracts/index.ts';
import { type CupelError, isCupelError, kitErrors, readText, retold } from '../kit/index.ts';
import { dataErrors } from './errors.ts';
import { parseRecords } from './parse-records.ts';
import { readerOf, readers } from './readers/choose-reader.ts';
import { Columns } from './readers/columns.ts';
import { presentFields } from './readers/present.ts';
import { repeatedColumns } from './readers/repeats.ts';
import type { RowFormat } from './readers/row-reader.ts';
import { checkDepth, checkTexts } from './readers/sound.ts';

/** Rows, how many of them were read as which format, and what was not read of them. */
export interface TrainingData {
  readonly rows: TrainingRow[];
  readonly formats: Readonly<Partial<Record<RowFormat, number>>>;
  /** Columns that no format has, or that repeat others, in order of appearance. */
  readonly ignored: readonly { readonly name: string; readonly rows: number }[];
}

/**
 * Reads training rows from JSON Lines or a JSON array, in any of the formats of docs/guides/training-data.md; the format
 * of each row is told from its fields. A row without id is called `line-<n>` (of an array `row-<n>`).
 * @throws the first bad row with file:line, and how many others there are: CUPEL_FILE_*, CUPEL_JSONL_INVALID,
 * CUPEL_FIELD_*, CUPEL_DATA_*.
 */
export async function readTrainingData(file: string): Promise<TrainingData> {
  return parseTrainingData(await readText(file), file);
}

/** The rows of `readTrainingData`. */
export async function readTrainingRows(file: string): Promise<TrainingRow[]> {
  return (await readTrainingData(file)).rows;
}

/** As `readTrainingRows`, from text; `file` is used in messages. */
export function parseTrainingRows(text: string, file: string): TrainingRow[] {
  return parseTrainingData(text, file).rows;
}

/** As `readTrainingData`, from text; `file` is used in messages. */
export function parseTrainingData(text: string, file: string): TrainingData {
  const seen = new Map<string, number>();
  const rows: TrainingRow[] = [];
  const formats: Partial<Record<RowFormat, number>> = {};
  const columns = new Columns(readers);
  const ignored = new Map<string, number>();
  const faults = new Faults();
  const records = parseRecords(text, file);
  const array = /^\s*\[/u.test(text) && records.length > 0 && !Array.isArray(records[0]?.value);
  for (const [index, { line, value }] of records.entries()) {
    const where = `${file}:${line}`;
    try {
      const raw = objectOf(value, where);
      checkDepth(raw, where);
      const given = presentFields(raw);
      const repeated = repeatedColumns(given);
      const row = Object.fromEntries(Object.entries(given).filter(([name]) => !repeated.includes(name)));
      const reader = readerOf(raw, row, where);
      const { fields, ignored: unread } = columns.split(row, reader, where);
      const { format, content } = reader.read(fields, where);
      checkDepth(content, where);
      checkTexts(content, where);
      const id = fields['id'] === undefined ? (array ? `row-${index + 1}` : `line-${line}`) : String(fields['id']);
      const before = seen.get(id);
      if (before !== undefined) {
        throw dataErrors.CUPEL_DATA_DUPLICATE_ID({ message: `id "${id}" is also that of line ${before}`, where });
      }
      seen.set(id, line);
      const { tags } = fields as { readonly tags?: string | readonly string[] };
      rows.push({ id, ...content, ...(tags === undefined ? {} : { tags: typeof tags === 'string' ? [tags] : tags }) });
      formats[format] = (formats[format] ?? 0) + 1;
      for (const name of [...repeated, ...unread]) ignored.set(name, (ignored.get(name) ?? 0) + 1);
    } catch (error) {
      if (!isCupelError(error)) throw error;
      faults.add(error);
    }
  }
  faults.raise();
  if (rows.length === 0) throw dataErrors.CUPEL_DATA_NO_ROWS({ message: 'no rows', where: file });
  return { rows, formats, ignored: [...ignored].map(([name, count]) => ({ name, rows: count })) };
}

/** Most columns that a message names. */
const named = 10;

/** What `CUPEL_DATA_COLUMNS_IGNORED` says of a dataset; null where every column was read. */
export function ignoredColumns({ ignored }: Pick<TrainingData, 'ignored'>): string | null {
  if (ignored.length === 0) return null;
  const shown = ignored
    .slice(0, named)
    .map(({ name, rows }) => `${JSON.stringify(name.slice(0, 40))} (of ${rows} ${rows === 1 ? 'row' : 'rows'})`);
  const more = ignored.length > named ? `, and ${ignored.length - named} more` : '';
  return `${ignored.length} ${ignored.length === 1 ? 'column was' : 'columns were'} not read: ${shown.join(', ')}${more}`;
}

function objectOf(value: unknown, where: string): Readonly<Record<string, unknown>> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  checkDepth(value, where);
  throw kitErrors.CUPEL_FIELD_INVALID({
    message: `a row must be object (is ${(JSON.stringify(value) ?? 'nothing').slice(0, 60)})`,
    where,
  });
}

/** Refused rows: the first two and how many there are, because a wrong file has one error a row. */
class Faults {
  #first: CupelError | null = null;
  #next: CupelError | null = null;
  #count = 0;

  add(error: CupelError): void {
    this.#count++;
    if (this.#first === null) this.#first = error;
    else this.#next ??= error;
  }

  /** @throws the first fault, with the count of the others */
  raise(): void {
    const first = this.#first;
    if (first === null) return;
    if (this.#count === 1) throw first;
    const next = this.#next?.where ?? 'an unknown place';
    throw retold(first, `${first.message}; and ${this.#count - 1} other rows are refused, the next at ${next}`);
  }
}
