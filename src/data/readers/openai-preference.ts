import { checkAgainst, compileSchema } from '../../kit/index.ts';
import { type ChatMessage, messagesSchema, readAnswer, readMessages, untrained } from './chat.ts';
import { rowSchema, type RowReader } from './row-reader.ts';
import { readTools, toolFields } from './tools.ts';

const { chat_template_kwargs: _, ...apiFields } = toolFields;
const properties = {
  input: {
    type: 'object',
    additionalProperties: false,
    required: ['messages'],
    properties: { messages: messagesSchema, ...apiFields },
  },
  preferred_output: messagesSchema,
  non_preferred_output: messagesSchema,
} as const;
const validate = compileSchema(rowSchema(properties, Object.keys(properties)), 'row of OpenAI preferences');

interface Raw {
  readonly input: { readonly messages: readonly ChatMessage[]; readonly parallel_tool_calls?: boolean };
  readonly preferred_output: readonly ChatMessage[];
  readonly non_preferred_output: readonly ChatMessage[];
}

/** OpenAI's direct preference optimisation, also of Together and Fireworks: `{input, preferred_output, non_preferred_output}`. */
export const openaiPreferenceReader: RowReader = {
  marks: ['preferred_output', 'non_preferred_output'],
  fields: Object.keys(properties),
  read(raw, where) {
    const row = checkAgainst<Raw>(validate, raw, where);
    return {
      format: 'openai-preference',
      content: {
        kind: 'preference',
        prompt: untrained(readMessages(row.input.messages, where), where),
        chosen: readAnswer(row.preferred_output, 'preferred_output', where),
        rejected: readAnswer(row.non_preferred_output, 'non_preferred_output', where),
        ...readTools(row.input, where),
      },
    };
  },
};
