import type { TrainingMessage } from '../../contracts/index.ts';
import { canonicalJson, checkAgainst, compileSchema } from '../../kit/index.ts';
import { dataErrors } from '../errors.ts';
import {
  answeredMessages,
  type ChatMessage,
  messagesSchema,
  readAnswer,
  readMessages,
  readPrompt,
  untrained,
} from './chat.ts';
import { type ReadRow, rowSchema, type RowReader } from './row-reader.ts';
import { readTools, toolFields } from './tools.ts';

const textOrMessages = { type: ['string', 'array'], items: messagesSchema.items, minItems: 1 };
const properties = {
  prompt: { ...textOrMessages, minLength: 1 },
  completion: textOrMessages,
  label: { type: 'boolean' },
  chosen: textOrMessages,
  rejected: textOrMessages,
  ...toolFields,
  completions: { type: 'array' },
  labels: { type: 'array' },
} as const;
const validate = compileSchema(rowSchema(properties, []), 'row with a prompt');

type Text = string | readonly ChatMessage[];
interface Raw extends Record<string, unknown> {
  readonly prompt?: Text;
  readonly completion?: Text;
  readonly label?: boolean;
  readonly chosen?: Text;
  readonly rejected?: Text;
  readonly completions?: readonly unknown[];
  readonly labels?: readonly unknown[];
  readonly parallel_tool_calls?: boolean;
}

/**
 * TRL's prompt with completion, preference (the prompt given, or shared by both answers) and unpaired preference, each
 * as texts or as messages. A prompt that is text is what a user says, and an answer that is text what the assistant
 * says. Source: TRL 1.16, dataset formats.
 */
export const promptReader: RowReader = {
  marks: ['prompt', 'completion', 'chosen', 'rejected', 'completions'],
  fields: Object.keys(properties),
  misnamed(column, row) {
    // Messages that are compared hold their prompt; texts may only begin with the same words.
    if (Array.isArray(row['chosen']) || Object.hasOwn(row, 'prompt')) return undefined;
    return ['question', 'query', 'problem'].includes(column) ? 'prompt' : undefined;
  },
  read(raw, where) {
    const row = checkAgainst<Raw>(validate, raw, where);
    if (row.completions !== undefined || row.labels !== undefined) {
      throw dataErrors.CUPEL_DATA_NOT_TRAINABLE({
        message:
          'this is stepwise supervision ("completions" and "labels"): no objective here learns from labelled steps',
        where,
      });
    }
    const compared = row.chosen !== undefined || row.rejected !== undefined;
    if (compared && (row.completion !== undefined || row.label !== undefined)) {
      throw dataErrors.CUPEL_DATA_ROW_KIND({
        message: 'more than one kind of row: chosen, rejected and completion, label',
        where,
      });
    }
    return compared ? readPreference(row, where) : readCompletion(row, where);
  },
};

function readCompletion(row: Raw, where: string): ReadRow {
  const { prompt, completion, label } = row;
  if (prompt === undefined || completion === undefined) {
    throw dataErrors.CUPEL_DATA_ROW_KIND({
      message: prompt === undefined ? 'a completion without "prompt"' : 'a prompt without an answer to learn',
      where,
    });
  }
  const tools = readTools(row, where);
  const before = readPrompt(prompt, where);
  if (label !== undefined) {
    const answer = readAnswer(completion, 'completion', where);
    return {
      format: 'unpaired',
      content: { kind: 'labelled', prompt: untrained(before, where), answer, desirable: label, ...tools },
    };
  }
  const answers: TrainingMessage[] =
    typeof completion === 'string' ? [{ role: 'assistant', content: completion }] : readMessages(completion, where);
  const read = untrained(before, where).map((message): TrainingMessage =>
    message.role === 'assistant' ? { ...message, weight: 0 } : message,
  );
  const messages = answeredMessages([...read, ...answers], where);
  return { format: 'prompt-completion', content: { kind: 'messages', messages, ...tools } };
}

function readPreference(row: Raw, where: string): ReadRow {
  const { chosen, rejected } = row;
  const missing = (['chosen', 'rejected'] as const).find((name) => row[name] === undefined);
  if (chosen === undefined || rejected === undefined) {
    throw dataErrors.CUPEL_DATA_ROW_KIND({ message: `a preference row without "${missing ?? ''}"`, where });
  }
  const tools = readTools(row, where);
  const parts =
    row.prompt === undefined ? splitPrompt(chosen, rejected, where) : { prompt: row.prompt, chosen, rejected };
  return {
    format: row.prompt === undefined ? 'implicit-preference' : 'preference',
    content: {
      kind: 'preference',
      prompt: untrained(readPrompt(parts.prompt, where), where),
      chosen: readAnswer(parts.chosen, 'chosen', where),
      rejected: readAnswer(parts.rejected, 'rejected', where),
      ...tools,
    },
  };
}

/**
 * The prompt that both answers begin with: whole messages, or of texts whole words, as TRL's `extract_prompt` does.
 * @throws CUPEL_DATA_ROW_KIND where they share nothing
 */
function splitPrompt(chosen: Text, rejected: Text, where: string): { prompt: Text; chosen: Text; rejected: Text } {
  let shared = 0;
  if (typeof chosen === 'string' && typeof rejected === 'string') {
    while (shared < chosen.length && chosen[shared] === rejected[shared]) shared++;
    while (shared > 0 && !/\s/u.test(chosen[shared - 1] ?? '')) shared--;
    if (chosen.slice(0, shared).trim() !== '') {
      return {
        prompt: chosen.slice(0, shared).trimEnd(),
        chosen: chosen.slice(shared),
        rejected: rejected.slice(shared),
      };
    }
  } else if (typeof chosen !== 'string' && typeof rejected !== 'string') {
    while (shared < chosen.length && canonicalJson(chosen[shared]) === canonicalJson(rejected[shared])) shared++;
    if (shared > 0)
      return { prompt: chosen.slice(0, shared), chosen: chosen.slice(shared), rejected: rejected.slice(shared) };
  }
  throw dataErrors.CUPEL_DATA_ROW_KIND({
    message: 'a preference row without "prompt", whose answers do not begin with the same prompt',
    where,
  });
}
