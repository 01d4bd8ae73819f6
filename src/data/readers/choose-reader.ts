import { kitErrors, nearest } from '../../kit/index.ts';
import { dataErrors } from '../errors.ts';
import { alpacaReader } from './alpaca.ts';
import { messagesReader } from './messages.ts';
import { openaiPreferenceReader } from './openai-preference.ts';
import { promptReader } from './prompt.ts';
import type { RowReader } from './row-reader.ts';
import { sharegptReader } from './sharegpt.ts';
import { textReader } from './text.ts';

type Fields = Readonly<Record<string, unknown>>;

export const readers: readonly RowReader[] = [
  sharegptReader,
  alpacaReader,
  openaiPreferenceReader,
  messagesReader,
  promptReader,
  textReader,
];
const everyMark: ReadonlySet<string> = new Set(readers.flatMap(({ marks }) => marks));

/**
 * The family of formats that a row belongs to, told from its fields.
 * @param raw as it stands in the file, for messages; `row`: without members that are null or repeat others
 * @throws CUPEL_DATA_ROW_KIND, CUPEL_FIELD_UNKNOWN where no format has such fields
 */
export function readerOf(raw: Fields, row: Fields, where: string): RowReader {
  const has = (name: string): boolean => Object.hasOwn(row, name);
  const found = readers.filter(({ marks }) => marks.some(has));
  // Compared answers stand beside the conversation in several families: what else is there decides.
  const [first, second] = found.filter(
    (reader) => reader !== promptReader || !found.some(holdsAnswers) || hasPrompt(row),
  );
  if (first !== undefined && second === undefined) return first;
  if (first !== undefined && second !== undefined) {
    const names = [first, second].map(({ marks }) => marks.filter(has).join(', '));
    throw dataErrors.CUPEL_DATA_ROW_KIND({ message: `more than one kind of row: ${names.join(' and ')}`, where });
  }
  const nothing = Object.keys(raw).filter((name) => raw[name] === null && everyMark.has(name));
  if (nothing.length > 0) {
    throw dataErrors.CUPEL_DATA_ROW_KIND({
      message: `no known kind of row: "${nothing.join('" and "')}" is null`,
      where,
    });
  }
  const known = [...new Set(readers.flatMap(({ fields }) => fields))];
  for (const name of Object.keys(raw)) {
    const near = known.includes(name) || name.length > 40 ? null : nearest(name, known);
    if (near === null) continue;
    throw kitErrors.CUPEL_FIELD_UNKNOWN({
      message: `unknown field "${name}"; did you mean "${near}"?`,
      where,
      remedy: `Rename "${name}" to "${near}", or remove it.`,
    });
  }
  const names = Object.keys(raw);
  const shown = names.slice(0, 10).map((name) => name.slice(0, 40));
  throw dataErrors.CUPEL_DATA_ROW_KIND({
    message: `no known kind of row: it has ${shown.join(', ')}${names.length > 10 ? ', …' : ''}`,
    where,
  });
}

function holdsAnswers(reader: RowReader): boolean {
  return reader !== promptReader && reader.fields.includes('chosen');
}

function hasPrompt(raw: Fields): boolean {
  return ['prompt', 'completion', 'completions'].some((name) => Object.hasOwn(raw, name));
}
