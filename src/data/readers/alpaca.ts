import type { TrainingMessage } from '../../contracts/index.ts';
import { checkAgainst, compileSchema } from '../../kit/index.ts';
import { dataErrors } from '../errors.ts';
import { answeredMessages, filled } from './chat.ts';
import { rowSchema, type RowReader } from './row-reader.ts';

const text = { type: ['string', 'null'] };
const properties = {
  instruction: { type: 'string' },
  input: text,
  output: text,
  system: text,
  history: {
    type: ['array', 'null'],
    items: { type: 'array', minItems: 2, maxItems: 2, items: { type: 'string' } },
  },
  chosen: { type: 'string' },
  rejected: { type: 'string' },
  kto_tag: { type: 'boolean' },
} as const;
const validate = compileSchema(rowSchema(properties, ['instruction']), 'Alpaca row');

interface Raw {
  readonly instruction: string;
  readonly input?: string | null;
  readonly output?: string | null;
  readonly system?: string | null;
  readonly history?: readonly (readonly [string, string])[] | null;
  readonly chosen?: string;
  readonly rejected?: string;
  readonly kto_tag?: boolean;
}

/**
 * Alpaca, as LLaMA-Factory reads it: the user says `instruction`, a line break and `input`; answers of `history` are
 * trained too where `output` is. With `chosen` and `rejected` a preference, with `kto_tag` a judged answer.
 */
export const alpacaReader: RowReader = {
  marks: ['instruction'],
  fields: Object.keys(properties),
  misnamed(column, row) {
    const field = column === 'context' ? 'input' : column === 'response' ? 'output' : undefined;
    return field === undefined || Object.hasOwn(row, field) || row[column] === '' ? undefined : field;
  },
  read(raw, where) {
    const row = checkAgainst<Raw>(validate, raw, where);
    const { chosen, rejected, kto_tag: desirable } = row;
    const user = [row.instruction, row.input ?? ''].filter((part) => part !== '').join('\n');
    const prompt: TrainingMessage[] = [
      ...((row.system ?? '') === '' ? [] : [{ role: 'system' as const, content: row.system ?? '' }]),
      ...(row.history ?? []).flatMap(([asked, answered]): TrainingMessage[] => [
        { role: 'user', content: asked },
        { role: 'assistant', content: answered },
      ]),
      { role: 'user', content: filled(user, 'instruction', where) },
    ];
    const output = row.output ?? '';
    if (chosen !== undefined || rejected !== undefined) {
      if (chosen === undefined || rejected === undefined || output !== '' || desirable !== undefined) {
        throw dataErrors.CUPEL_DATA_ROW_KIND({
          message:
            chosen === undefined || rejected === undefined
              ? `a preference row without "${chosen === undefined ? 'chosen' : 'rejected'}"`
              : 'more than one kind of row: chosen, rejected and output, kto_tag',
          where,
        });
      }
      return {
        format: 'alpaca-preference',
        content: {
          kind: 'preference',
          prompt,
          chosen: filled(chosen, 'chosen', where),
          rejected: filled(rejected, 'rejected', where),
        },
      };
    }
    const answer = filled(output, 'output', where);
    if (desirable !== undefined)
      return { format: 'alpaca-unpaired', content: { kind: 'labelled', prompt, answer, desirable } };
    const messages = answeredMessages([...prompt, { role: 'assistant', content: answer }], where);
    return { format: 'alpaca', content: { kind: 'messages', messages } };
  },
};
