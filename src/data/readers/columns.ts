import { editDistance, kitErrors } from '../../kit/index.ts';
import { dataErrors } from '../errors.ts';
import { commonFields, type RowReader } from './row-reader.ts';

type Fields = Readonly<Record<string, unknown>>;

const seen = 'nothing here learns from pictures or sound';
const tokens = 'rows become tokens through the template and tokenizer of the base, and nowhere else';
const weight = 'no row has a weight; give one to the messages of the assistant';
const thoughts = 'thoughts that stand beside an answer are not trained; write them into it';

/** Columns that say how a row is to be learnt, which nothing here does: without them it would be another row. */
const meaningful: ReadonlyMap<string, string> = new Map([
  ['margin', 'no objective reads a margin of its own for each pair'],
  ...['image', 'images', 'rejected_images', 'video', 'videos', 'audio', 'audios'].map((name) => [name, seen] as const),
  ...['input_ids', 'token_ids', 'attention_mask', 'completion_mask', 'assistant_masks'].map(
    (name) => [name, tokens] as const,
  ),
  ...['weight', 'weights', 'sample_weight'].map((name) => [name, weight] as const),
  ...['reasoning', 'reasoning_content', 'thinking'].map((name) => [name, thoughts] as const),
  ['system_prompt', 'name it "system" where the format has that, or write a system message'],
  ['functions', 'name it "tools"'],
  ['function_call', 'write it as "tool_calls" of a message'],
]);

/** Tells columns that a format reads from those that it does not. Remembers names: a dataset has the same in every row. */
export class Columns {
  readonly #everyField: ReadonlySet<string>;
  readonly #near = new Map<RowReader, Map<string, readonly string[]>>();

  constructor(readers: readonly RowReader[]) {
    this.#everyField = new Set(readers.flatMap(({ fields }) => fields));
  }

  /**
   * The fields that a reader knows, and the names of the others.
   * @throws CUPEL_FIELD_UNKNOWN for a field of another format and for what looks like a misspelt one;
   * CUPEL_DATA_NOT_TRAINABLE for what says how to train
   */
  split(
    row: Fields,
    reader: RowReader,
    where: string,
  ): { readonly fields: Fields; readonly ignored: readonly string[] } {
    const ignored = Object.keys(row).filter(
      (name) => !reader.fields.includes(name) && !Object.hasOwn(commonFields, name),
    );
    if (ignored.length === 0) return { fields: row, ignored };
    for (const name of ignored) this.#refuse(name, row, reader, where);
    const left = new Set(ignored);
    return { fields: Object.fromEntries(Object.entries(row).filter(([name]) => !left.has(name))), ignored };
  }

  #refuse(name: string, row: Fields, reader: RowReader, where: string): void {
    const reason = meaningful.get(name);
    if (reason !== undefined)
      throw dataErrors.CUPEL_DATA_NOT_TRAINABLE({ message: `"${name}" is not read: ${reason}`, where });
    const renamed = reader.misnamed?.(name, row) ?? this.#misspelt(name, row, reader);
    if (renamed !== undefined) {
      throw kitErrors.CUPEL_FIELD_UNKNOWN({
        message: `unknown field "${name}"; did you mean "${renamed}"?`,
        where,
        remedy: `Rename "${name}" to "${renamed}", or remove it.`,
      });
    }
    if (!this.#everyField.has(name)) return;
    throw kitErrors.CUPEL_FIELD_UNKNOWN({
      message: `"${name}" belongs to another format, and would not be read here`,
      where,
      remedy: `Remove it, or write the row in a format that has it. Fields here: ${reader.fields.join(', ')}.`,
    });
  }

  /** A field that the row lacks and whose name is one edit away, or two where both names are long. */
  #misspelt(name: string, row: Fields, reader: RowReader): string | undefined {
    const known = this.#near.get(reader) ?? new Map<string, readonly string[]>();
    this.#near.set(reader, known);
    let near = known.get(name);
    if (near === undefined) known.set(name, (near = reader.fields.filter((field) => isNear(name, field))));
    return near.find((field) => !Object.hasOwn(row, field));
  }
}

function isNear(name: string, field: string): boolean {
  const shorter = Math.min(name.length, field.length);
  if (shorter < 4 || Math.abs(name.length - field.length) > 2) return false;
  return editDistance(name.toLowerCase(), field.toLowerCase()) <= (shorter < 6 ? 1 : 2);
}
