import type { TrainJob, TrainingRow } from '../../src/contracts/index.ts';
import { jsonStyleOf, type JsonStyle, parseJsonObject } from '../../src/kit/index.ts';
import { trainerErrors } from './errors.ts';

/** What a classical baseline learns from: user texts and the fields of their answers. */
export interface LabelledTexts {
  readonly texts: readonly string[];
  /** Field names in the order of the first answer. */
  readonly names: readonly string[];
  /** Values of each field, [name][row]. */
  readonly values: Readonly<Record<string, readonly unknown[]>>;
  readonly style: JsonStyle;
}

/**
 * The last user message and the JSON object of the last assistant message of each row.
 * @throws CUPEL_TRAINER_ROWS naming the row.
 */
export function labelledTexts(job: TrainJob): LabelledTexts {
  const pairs = job.data.map(textAndAnswer);
  const [first] = pairs;
  if (first === undefined)
    throw trainerErrors.CUPEL_TRAINER_ROWS({ message: 'there are no rows', where: `job ${job.id}` });
  const names = Object.keys(first.fields);
  for (const [index, { fields }] of pairs.entries()) {
    const odd = [
      ...names.filter((name) => !Object.hasOwn(fields, name)),
      ...Object.keys(fields).filter((name) => !names.includes(name)),
    ];
    if (odd.length > 0)
      throw refused(job.data[index], `its fields differ from those of the first row in ${odd.join(', ')}`);
  }
  return {
    texts: pairs.map(({ text }) => text),
    names,
    values: Object.fromEntries(names.map((name) => [name, pairs.map(({ fields }) => fields[name])])),
    style: jsonStyleOf(first.answer),
  };
}

function textAndAnswer(row: TrainingRow): { text: string; answer: string; fields: Record<string, unknown> } {
  if (row.kind !== 'messages') throw refused(row, `it is of kind "${row.kind}", not messages`);
  const text = row.messages.findLast(({ role }) => role === 'user')?.content;
  const answer = row.messages.findLast(({ role }) => role === 'assistant')?.content ?? '';
  const fields = parseJsonObject(answer);
  if (text === undefined) throw refused(row, 'it has no user message');
  if (fields === null) throw refused(row, `its answer is not a JSON object: ${JSON.stringify(answer.slice(0, 60))}`);
  return { text, answer, fields };
}

function refused(row: TrainingRow | undefined, message: string): Error {
  return trainerErrors.CUPEL_TRAINER_ROWS({ message, where: `row ${row?.id ?? '?'}` });
}
