import { checkAgainst, compileSchema } from '../../kit/index.ts';
import { dataErrors } from '../errors.ts';
import { answeredMessages, type ChatMessage, filled, messagesSchema, readMessages, untrained } from './chat.ts';
import { rowSchema, type RowReader } from './row-reader.ts';
import { readTools, toolFields } from './tools.ts';

const properties = {
  messages: messagesSchema,
  ...toolFields,
  rejected_response: { type: 'string' },
  label: { type: 'boolean' },
} as const;
const validate = compileSchema(rowSchema(properties, ['messages']), 'row of messages');

interface Raw extends Record<string, unknown> {
  readonly messages: readonly ChatMessage[];
  readonly parallel_tool_calls?: boolean;
  readonly rejected_response?: string;
  readonly label?: boolean;
}

/**
 * `{messages}` of TRL (conversational) and OpenAI (chat fine-tuning, with `weight`, `tools` and `tool_calls`); with
 * `rejected_response` or `label` as ms-swift has them: the last message is the answer that is compared or judged.
 */
export const messagesReader: RowReader = {
  marks: ['messages', 'rejected_response'],
  fields: Object.keys(properties),
  read(raw, where) {
    const row = checkAgainst<Raw>(validate, raw, where);
    const { rejected_response: rejected, label } = row;
    const tools = readTools(row, where);
    const messages = answeredMessages(readMessages(row.messages, where), where);
    if (rejected === undefined && label === undefined)
      return { format: 'messages', content: { kind: 'messages', messages, ...tools } };
    if (rejected !== undefined && label !== undefined) {
      throw dataErrors.CUPEL_DATA_ROW_KIND({ message: 'both "rejected_response" and "label" are given', where });
    }
    const last = messages.at(-1);
    if (last?.toolCalls !== undefined) {
      throw dataErrors.CUPEL_DATA_NOT_TRAINABLE({
        message: 'the answer calls tools; a compared answer is text',
        where,
      });
    }
    const prompt = untrained(messages.slice(0, -1), where);
    const answer = filled(last?.content ?? '', 'the last message', where);
    if (label !== undefined)
      return { format: 'messages-unpaired', content: { kind: 'labelled', prompt, answer, desirable: label, ...tools } };
    return {
      format: 'messages-preference',
      content: {
        kind: 'preference',
        prompt,
        chosen: answer,
        rejected: filled(rejected ?? '', 'rejected_response', where),
        ...tools,
      },
    };
  },
};
