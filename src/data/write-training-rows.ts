import { createHash } from 'node:crypto';
import type { TrainingMessage, TrainingRow } from '../contracts/index.ts';
import { canonicalJson } from '../kit/index.ts';

/** JSONL that `parseTrainingRows` reads back to equal rows. */
export function formatTrainingRows(rows: readonly TrainingRow[]): string {
  return rows.map((row) => `${JSON.stringify(writtenRow(row))}\n`).join('');
}

/**
 * `sha256:<hex>` over the canonical rows, in their order: `digestOf(rows)`, row by row, because the text of a large
 * dataset is longer than a string can be.
 */
export function digestRows(rows: readonly TrainingRow[]): string {
  const hash = createHash('sha256').update('[');
  for (const [index, row] of rows.entries()) hash.update(`${index === 0 ? '' : ','}${canonicalJson(row)}`);
  return `sha256:${hash.update(']').digest('hex')}`;
}

/** A row as a line of JSON holds it; `undefined` is not written. */
function writtenRow(row: TrainingRow): object {
  const line = { ...row, kind: undefined };
  if (row.kind === 'text') return line;
  if (row.kind === 'messages') return { ...line, messages: row.messages.map(writtenMessage) };
  const prompt = row.prompt.map(writtenMessage);
  if (row.kind === 'preference') return { ...line, prompt };
  const { answer: completion, desirable: label } = row;
  return { ...line, prompt, answer: undefined, desirable: undefined, completion, label };
}

function writtenMessage({ toolCalls, ...message }: TrainingMessage): object {
  if (toolCalls === undefined) return message;
  const calls = toolCalls.map(({ id, name, arguments: values }) => ({
    ...(id === '' ? {} : { id }),
    type: 'function',
    function: { name, arguments: values },
  }));
  return { ...message, tool_calls: calls };
}
