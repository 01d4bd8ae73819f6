import type { TrainingRow } from '../contracts/index.ts';
import { jsonStyleOf, parseJsonObject, Random, writeJson } from '../kit/index.ts';
import { dataErrors } from './errors.ts';

export interface Corruption {
  /** Share of the rows to change, in [0, 1]; the number is rounded down. */
  readonly share: number;
  /** Fields of the answer and the value that each gets. */
  readonly set: Readonly<Record<string, unknown>>;
  readonly seed: number;
}

/**
 * Rows of which a share has wrong labels, chosen by the seed: a planted fault that a gate must find. Order, ids, prompts
 * and the style of the JSON stay; the answer is the last message.
 * @throws CUPEL_DATA_ANSWER_NOT_OBJECT where an answer has no such field.
 */
export function corruptLabels(rows: readonly TrainingRow[], corruption: Corruption): TrainingRow[] {
  const indices = new Random(corruption.seed, 'corrupt labels').shuffle(rows.map((_, index) => index));
  const picked = new Set(indices.slice(0, Math.floor(rows.length * corruption.share)));
  return rows.map((row, index) => (picked.has(index) ? corrupt(row, corruption.set) : row));
}

function corrupt(row: TrainingRow, set: Corruption['set']): TrainingRow {
  const last = row.kind === 'messages' ? row.messages.at(-1) : undefined;
  const fields = last === undefined ? null : parseJsonObject(last.content);
  const absent = Object.keys(set).find((name) => fields === null || !Object.hasOwn(fields, name));
  if (row.kind !== 'messages' || last === undefined || fields === null || absent !== undefined) {
    throw dataErrors.CUPEL_DATA_ANSWER_NOT_OBJECT({
      message: fields === null ? 'the answer is not a JSON object' : `the answer has no field "${absent ?? ''}"`,
      where: `row ${row.id}`,
    });
  }
  const content = writeJson({ ...fields, ...set }, jsonStyleOf(last.content));
  return { ...row, messages: [...row.messages.slice(0, -1), { ...last, content }] };
}
