import { checkAgainst, compileSchema } from '../../kit/index.ts';
import { filled } from './chat.ts';
import { rowSchema, type RowReader } from './row-reader.ts';

const validate = compileSchema(rowSchema({ text: { type: 'string' } }, ['text']), 'text row');

/** TRL's language modelling and Alpaca's pre-training: `{text}`, a plain document. */
export const textReader: RowReader = {
  marks: ['text'],
  fields: ['text'],
  read(raw, where) {
    const { text } = checkAgainst<{ readonly text: string }>(validate, raw, where);
    return { format: 'text', content: { kind: 'text', text: filled(text, 'text', where) } };
  },
};
