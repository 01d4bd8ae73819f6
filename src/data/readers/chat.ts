import type { ToolCall, TrainingMessage } from '../../contracts/index.ts';
import { parseJsonObject } from '../../kit/index.ts';
import { dataErrors } from '../errors.ts';

/** A message as OpenAI's API and Hugging Face's templates write it. */
export interface ChatMessage {
  readonly role: TrainingMessage['role'];
  readonly content?: string | null | readonly { readonly text: string }[];
  readonly weight?: number;
  readonly name?: string;
  readonly tool_calls?: readonly ChatCall[];
  readonly tool_call_id?: string;
}

interface ChatCall {
  readonly id?: string;
  readonly function: { readonly name: string; readonly arguments: string | Readonly<Record<string, unknown>> };
}

const call = {
  type: 'object',
  additionalProperties: false,
  required: ['function'],
  properties: {
    id: { type: 'string' },
    type: { const: 'function' },
    function: {
      type: 'object',
      additionalProperties: false,
      required: ['name', 'arguments'],
      properties: { name: { type: 'string', minLength: 1 }, arguments: { type: ['string', 'object'] } },
    },
  },
};
const textPart = {
  type: 'object',
  additionalProperties: false,
  required: ['type', 'text'],
  properties: { type: { const: 'text' }, text: { type: 'string' } },
};
const messageSchema = {
  type: 'object',
  additionalProperties: false,
  required: ['role'],
  properties: {
    role: { enum: ['system', 'user', 'assistant', 'tool'] },
    content: { type: ['string', 'null', 'array'], items: textPart },
    weight: { type: 'number', minimum: 0, maximum: 1 },
    name: { type: 'string' },
    tool_calls: { type: 'array', items: call },
    tool_call_id: { type: 'string' },
  },
};
export const messagesSchema = { type: 'array', minItems: 1, items: messageSchema } as const;

/** Messages as rows hold them. A tool's answer gets the name of the tool that was called. @throws CUPEL_DATA_TOOLS */
export function readMessages(messages: readonly ChatMessage[], where: string): TrainingMessage[] {
  const called = new Map<string, string>();
  return messages.map((one, index) => {
    const here = `${where}: messages.${index}`;
    const toolCalls = (one.tool_calls ?? []).map((entry) => readCall(entry, here));
    for (const { id, name } of toolCalls) called.set(id, name);
    if (one.role !== 'assistant' && toolCalls.length > 0) {
      throw dataErrors.CUPEL_DATA_TOOLS({ message: `a message of role "${one.role}" calls tools`, where: here });
    }
    return {
      role: one.role,
      content: contentOf(one, toolCalls.length > 0, here),
      ...(one.weight === undefined ? {} : { weight: one.weight }),
      ...nameOf(one, called, here),
      ...(toolCalls.length === 0 ? {} : { toolCalls }),
    };
  });
}

function contentOf(one: ChatMessage, calls: boolean, where: string): string {
  const { content } = one;
  if (typeof content === 'string') return content;
  if (content !== null && content !== undefined) return content.map(({ text }) => text).join('');
  if (calls) return '';
  throw dataErrors.CUPEL_DATA_EMPTY_TARGET({ message: `a message of role "${one.role}" has no content`, where });
}

function nameOf(one: ChatMessage, called: ReadonlyMap<string, string>, where: string): { name?: string } {
  if (one.role === 'tool') {
    const name = one.name ?? (one.tool_call_id === undefined ? undefined : called.get(one.tool_call_id));
    if (name === undefined && one.tool_call_id !== undefined) {
      throw dataErrors.CUPEL_DATA_TOOLS({ message: `no call has the id "${one.tool_call_id}"`, where });
    }
    return name === undefined ? {} : { name };
  }
  if (one.tool_call_id !== undefined) {
    throw dataErrors.CUPEL_DATA_TOOLS({ message: `a message of role "${one.role}" answers a tool call`, where });
  }
  if (one.name === undefined) return {};
  throw dataErrors.CUPEL_DATA_NOT_TRAINABLE({
    message: `the ${one.role} message has the name "${one.name}", and templates write names of tools alone`,
    where,
  });
}

function readCall(entry: ChatCall, where: string): ToolCall {
  const { name, arguments: given } = entry.function;
  const values = typeof given === 'string' ? parseJsonObject(given) : given;
  if (values === null) {
    throw dataErrors.CUPEL_DATA_TOOLS({
      message: `the arguments of the call of "${name}" are no JSON object: ${String(given).slice(0, 60)}`,
      where,
    });
  }
  return { id: entry.id ?? '', name, arguments: values };
}

/** A text as the message of a user, or messages as they stand. */
export function readPrompt(prompt: string | readonly ChatMessage[], where: string): TrainingMessage[] {
  return typeof prompt === 'string' ? [{ role: 'user', content: prompt }] : readMessages(prompt, where);
}

/** Messages of which nothing is trained. @throws CUPEL_DATA_NOT_TRAINABLE where one has a weight. */
export function untrained(messages: readonly TrainingMessage[], where: string): TrainingMessage[] {
  return messages.map(({ weight = 0, ...message }, index) => {
    if (weight === 0) return message;
    throw dataErrors.CUPEL_DATA_NOT_TRAINABLE({
      message: `message ${index} of the prompt has weight ${weight}, and of this row the answer alone is trained`,
      where,
    });
  });
}

/** The text of the single assistant message that an answer is. @throws CUPEL_DATA_ROW_KIND, CUPEL_DATA_NOT_TRAINABLE */
export function readAnswer(answer: string | readonly ChatMessage[], what: string, where: string): string {
  if (typeof answer === 'string') return filled(answer, what, where);
  const [only, ...others] = readMessages(answer, where);
  if (only === undefined || others.length > 0 || only.role !== 'assistant') {
    throw dataErrors.CUPEL_DATA_ROW_KIND({
      message: `${what} has to be one assistant message, and is ${answer.map(({ role }) => role).join(', ') || 'empty'}`,
      where,
    });
  }
  if (only.toolCalls !== undefined) {
    throw dataErrors.CUPEL_DATA_NOT_TRAINABLE({ message: `${what} calls tools; a compared answer is text`, where });
  }
  if (only.weight !== undefined && only.weight !== 1) {
    throw dataErrors.CUPEL_DATA_NOT_TRAINABLE({ message: `${what} has weight ${only.weight}`, where });
  }
  return filled(only.content, what, where);
}

/** A conversation that ends with an answer, and whose trained answers are not empty. @throws CUPEL_DATA_EMPTY_TARGET */
export function answeredMessages(messages: readonly TrainingMessage[], where: string): readonly TrainingMessage[] {
  const last = messages.at(-1);
  if (last?.role !== 'assistant') {
    throw dataErrors.CUPEL_DATA_EMPTY_TARGET({
      message: `the last message is of role "${last?.role ?? 'none'}", not assistant`,
      where,
    });
  }
  for (const { role, content, weight, toolCalls } of messages)
    if (role === 'assistant' && weight !== 0 && toolCalls === undefined) filled(content, 'an assistant message', where);
  return messages;
}

/** @throws CUPEL_DATA_EMPTY_TARGET */
export function filled(text: string, what: string, where: string): string {
  if (text.trim() !== '') return text;
  throw dataErrors.CUPEL_DATA_EMPTY_TARGET({ message: `${what} is empty`, where });
}
