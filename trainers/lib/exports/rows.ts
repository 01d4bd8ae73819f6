import type { TrainingMessage, TrainingRow } from '../../../src/contracts/index.ts';
import { exportErrors } from './errors.ts';

interface PlainMessage {
  readonly role: string;
  readonly content: string;
}

/** Lines of a JSONL file. */
export function jsonl(rows: readonly unknown[]): string {
  return rows.map((row) => `${JSON.stringify(row)}\n`).join('');
}

export function plain(messages: readonly TrainingMessage[]): PlainMessage[] {
  return messages.map(({ role, content }) => ({ role, content }));
}

export type RowOf<K extends TrainingRow['kind']> = Extract<TrainingRow, { readonly kind: K }>;

/** The rows, all of one kind. @throws CUPEL_EXPORT_ROW naming the first that is not, or that has tools */
export function rowsOf<K extends TrainingRow['kind']>(
  rows: readonly TrainingRow[],
  kind: K,
  program: string,
): readonly RowOf<K>[] {
  return rows.map((row) => {
    if (row.kind !== kind) refuseRow(row, `${program}: it is a row of ${row.kind}, expected ${kind}`);
    if ('tools' in row && row.tools !== undefined) refuseRow(row, `${program}: its tools can not be handed over`);
    return row as RowOf<K>;
  });
}

/** Whether the loss is on each assistant message. @throws CUPEL_EXPORT_ROW for weights other than 0 and 1 */
export function trained(row: RowOf<'messages'>, program: string): readonly boolean[] {
  return row.messages.map(({ role, weight }) => {
    const given = weight ?? (role === 'assistant' ? 1 : 0);
    if (given !== 0 && given !== 1) refuseRow(row, `${program}: a message has weight ${given}`);
    return given === 1;
  });
}

/** @throws CUPEL_EXPORT_ROW unless an optional system message is followed by user and assistant in turn */
export function checkTurns(row: TrainingRow, messages: readonly PlainMessage[], program: string): void {
  const turns = messages[0]?.role === 'system' ? messages.slice(1) : messages;
  const odd = turns.find(({ role }, index) => role !== (index % 2 === 0 ? 'user' : 'assistant'));
  if (odd !== undefined)
    refuseRow(row, `${program}: user and assistant must take turns, a "${odd.role}" stands between`);
}

export function refuseRow(row: TrainingRow, message: string): never {
  throw exportErrors.CUPEL_EXPORT_ROW({ message, where: `row ${row.id}` });
}
