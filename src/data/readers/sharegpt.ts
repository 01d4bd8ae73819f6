import type { TrainingMessage } from '../../contracts/index.ts';
import { checkAgainst, compileSchema, parseJsonObject } from '../../kit/index.ts';
import { dataErrors } from '../errors.ts';
import { answeredMessages, filled, untrained } from './chat.ts';
import { rowSchema, type RowReader } from './row-reader.ts';
import { readTools } from './tools.ts';

const turn = {
  type: 'object',
  additionalProperties: false,
  required: ['from', 'value'],
  properties: {
    from: { enum: ['human', 'gpt', 'system', 'observation', 'function_call'] },
    value: { type: 'string' },
    weight: { type: 'number', minimum: 0, maximum: 1 },
  },
};
const properties = {
  conversations: { type: 'array', minItems: 1, items: turn },
  system: { type: ['string', 'null'] },
  tools: { type: ['string', 'array', 'null'] },
  chosen: turn,
  rejected: turn,
  kto_tag: { type: 'boolean' },
} as const;
const validate = compileSchema(rowSchema(properties, ['conversations']), 'ShareGPT row');

interface Turn {
  readonly from: 'human' | 'gpt' | 'system' | 'observation' | 'function_call';
  readonly value: string;
  /** Of the loss on this turn, as elsewhere on a message. */
  readonly weight?: number;
}
interface Raw extends Record<string, unknown> {
  readonly conversations: readonly Turn[];
  readonly system?: string | null;
  readonly chosen?: Turn;
  readonly rejected?: Turn;
  readonly kto_tag?: boolean;
}

/**
 * ShareGPT, as LLaMA-Factory reads it: human and observation in odd places, gpt and function_call in even ones, after a
 * system message if there is one. A function_call is JSON with `name` and `arguments`.
 */
export const sharegptReader: RowReader = {
  marks: ['conversations'],
  fields: Object.keys(properties),
  read(raw, where) {
    const row = checkAgainst<Raw>(validate, raw, where);
    const { chosen, rejected, kto_tag: desirable } = row;
    const tools = readTools({ tools: row['tools'] }, where);
    const messages = readTurns(row, where);
    if (chosen !== undefined || rejected !== undefined) {
      if (chosen === undefined || rejected === undefined || desirable !== undefined) {
        throw dataErrors.CUPEL_DATA_ROW_KIND({
          message:
            desirable === undefined
              ? `a preference row without "${chosen === undefined ? 'chosen' : 'rejected'}"`
              : 'more than one kind of row: chosen, rejected and kto_tag',
          where,
        });
      }
      return {
        format: 'sharegpt-preference',
        content: {
          kind: 'preference',
          prompt: untrained(messages, where),
          chosen: answerOf(chosen, 'chosen', where),
          rejected: answerOf(rejected, 'rejected', where),
          ...tools,
        },
      };
    }
    const answered = answeredMessages(messages, where);
    if (desirable === undefined)
      return { format: 'sharegpt', content: { kind: 'messages', messages: answered, ...tools } };
    const last = row.conversations.at(-1) as Turn;
    return {
      format: 'sharegpt-unpaired',
      content: {
        kind: 'labelled',
        prompt: untrained(answered.slice(0, -1), where),
        answer: answerOf(last, 'the last turn', where),
        desirable,
        ...tools,
      },
    };
  },
};

function readTurns(row: Raw, where: string): TrainingMessage[] {
  const inside = row.conversations[0]?.from === 'system';
  if (inside && (row.system ?? '') !== '') {
    throw dataErrors.CUPEL_DATA_TURN_ORDER({ message: 'there are two system messages', where });
  }
  const system: TrainingMessage[] = (row.system ?? '') === '' ? [] : [{ role: 'system', content: row.system ?? '' }];
  let called: string | undefined;
  const turns = row.conversations.map(({ from, value, weight: given }, index): TrainingMessage => {
    const here = `${where}: conversations.${index}`;
    const weight = given === undefined ? {} : { weight: given };
    if (inside && index === 0) return { role: 'system', content: value, ...weight };
    const odd = (index - (inside ? 1 : 0)) % 2 === 0;
    if (odd !== (from === 'human' || from === 'observation') || from === 'system') {
      throw dataErrors.CUPEL_DATA_TURN_ORDER({
        message: `turn ${index} is from "${from}", where ${odd ? 'human or observation' : 'gpt or function_call'} has to stand`,
        where: here,
      });
    }
    if (from === 'human') return { role: 'user', content: value, ...weight };
    if (from === 'gpt') return { role: 'assistant', content: value, ...weight };
    if (from === 'observation')
      return { role: 'tool', content: value, ...weight, ...(called === undefined ? {} : { name: called }) };
    const call = readCall(value, here);
    called = call.name;
    return { role: 'assistant', content: '', ...weight, toolCalls: [call] };
  });
  return [...system, ...turns];
}

function readCall(text: string, where: string): NonNullable<TrainingMessage['toolCalls']>[number] {
  const call = parseJsonObject(text);
  const name = call?.['name'];
  const given = call?.['arguments'];
  const values = typeof given === 'string' ? parseJsonObject(given) : given;
  if (typeof name === 'string' && typeof values === 'object' && values !== null && !Array.isArray(values))
    return { id: '', name, arguments: values as Readonly<Record<string, unknown>> };
  throw dataErrors.CUPEL_DATA_TOOLS({
    message: `a function_call has to be JSON with "name" and "arguments", and is ${JSON.stringify(text.slice(0, 60))}`,
    where,
  });
}

function answerOf({ from, value, weight = 1 }: Turn, what: string, where: string): string {
  if (weight !== 1) throw dataErrors.CUPEL_DATA_NOT_TRAINABLE({ message: `${what} has weight ${weight}`, where });
  if (from === 'gpt') return filled(value, what, where);
  throw dataErrors.CUPEL_DATA_NOT_TRAINABLE({
    message: `${what} is from "${from}"; a compared answer is from gpt`,
    where,
  });
}
