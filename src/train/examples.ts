import type { Model, Recipe, TrainEvent, TrainingRow } from '../contracts/index.ts';
import { type CupelError, isCupelError } from '../kit/index.ts';
import { trainErrors } from './errors.ts';
import type { Example, ExampleShape } from './example.ts';
import { cutIntoWindows, cutLeft } from './overlong.ts';
import { RowFaults } from './row-faults.ts';
import { conversationTokens, documentTokens, opensWith, renderedText, type TokenSequence } from './sequence.ts';

export type { Example, ExampleShape } from './example.ts';

export type ExampleOptions = Pick<Recipe, 'overlong' | 'maxTokens'>;

/**
 * Rows as token sequences, all checked before the first step. With `promptLabels` the prompt of the first sequence, but
 * for its first token, is labelled with weight 1.
 * @param options the limit is `maxTokens`, and never more than the context of the model. Of a row that is longer `left`
 * cuts the start of the prompt (a token that opens the sequence stays), equally for both answers of a pair; `window`
 * cuts documents into pieces that overlap by one token, so that every token but the first is learned once.
 * @throws the first bad row, with how many others there are: the errors of `conversationTokens`,
 * CUPEL_TRAIN_ROW_TOO_LONG, CUPEL_TRAIN_ROW_KIND, CUPEL_TRAIN_PAIR_EQUAL, and CUPEL_TRAIN_NOTHING_TO_LEARN when no row
 * is left.
 */
export function prepareExamples(
  model: Model,
  rows: readonly TrainingRow[],
  shape: ExampleShape,
  options: ExampleOptions,
  sink: (event: TrainEvent) => void = () => {},
): Example[] {
  const limit = Math.min(options.maxTokens ?? Infinity, model.contextLength);
  const begin = opensWith(model);
  const examples: Example[] = [];
  /** A row of two judged answers may lose both. */
  const dropped = new Set<TrainingRow>();
  const faults = new RowFaults();
  for (const row of rows) {
    try {
      if (isFarTooLong(model, row, limit, options.overlong)) {
        if (options.overlong !== 'drop') throw tooLong(row, `more than ${limit}`, limit, options.overlong, model);
        dropped.add(row);
        continue;
      }
      for (const example of examplesOf(model, row, shape)) {
        const fitting = fit({ ...example, source: row }, row, limit, options.overlong, begin, model);
        if (fitting === null) dropped.add(row);
        else examples.push(...fitting);
      }
    } catch (error) {
      if (!isCupelError(error)) throw error;
      faults.add(row.id, error);
    }
  }
  faults.raise();
  if (dropped.size > 0) {
    const ids = Array.from(dropped, ({ id }) => id).slice(0, 5);
    sink({
      type: 'warning',
      code: 'CUPEL_TRAIN_ROW_TOO_LONG',
      message: `${dropped.size} of ${rows.length} rows are longer than ${limitName(limit, model)} and were left out: ${ids.join(', ')}${dropped.size > 5 ? ', …' : ''}`,
    });
  }
  if (examples.length === 0) {
    throw trainErrors.CUPEL_TRAIN_NOTHING_TO_LEARN({
      message: `no row is left to train on, of ${rows.length}`,
      where: 'data',
    });
  }
  return shape.promptLabels === true ? examples.map(withPromptLabels) : examples;
}

function limitName(limit: number, model: Model): string {
  return limit === model.contextLength ? 'the context' : `${limit} tokens`;
}

function examplesOf(model: Model, row: TrainingRow, shape: ExampleShape): Example[] {
  const { id } = row;
  const where = `row ${id}`;
  if (row.kind === 'preference') {
    const answer = (content: string): TokenSequence => answered(model, row, content, where);
    if (shape.sequences === 'answer') return [{ id, sequences: [answer(row.chosen)] }];
    const pair: [TokenSequence, TokenSequence] = [answer(row.chosen), answer(row.rejected)];
    if (equalTokens(...pair)) {
      throw trainErrors.CUPEL_TRAIN_PAIR_EQUAL({
        message: `both answers are ${JSON.stringify(row.chosen.slice(0, 80))}`,
        where,
      });
    }
    if (shape.sequences === 'pair') return [{ id, sequences: pair }];
    return [
      { id: `${id} (chosen)`, sequences: [pair[0]], desirable: true },
      { id: `${id} (rejected)`, sequences: [pair[1]], desirable: false },
    ];
  }
  if (row.kind === 'labelled') {
    const { desirable } = row;
    // To learn an answer that was marked as bad would be the opposite of what the row says.
    if (shape.sequences === 'labelled' || (shape.sequences === 'answer' && desirable))
      return [{ id, sequences: [answered(model, row, row.answer, where)], desirable }];
  }
  if (shape.sequences === 'answer' && row.kind === 'messages') {
    const tools = row.tools === undefined ? {} : { tools: row.tools };
    return [{ id, sequences: [conversationTokens(model, row.messages, where, tools)] }];
  }
  if (shape.sequences === 'answer' && row.kind === 'text')
    return [{ id, sequences: [documentTokens(model, row.text, where)] }];
  throw trainErrors.CUPEL_TRAIN_ROW_KIND({ message: misfit(row, shape), where });
}

function misfit(row: TrainingRow, shape: ExampleShape): string {
  if (shape.sequences === 'pair') return `a row of kind "${row.kind}" has no chosen and rejected answer`;
  if (shape.sequences === 'labelled') return `a row of kind "${row.kind}" does not say whether its answer is desirable`;
  return `the answer of this row is marked as not desirable, and "${shape.name}" would learn it`;
}

function answered(
  model: Model,
  row: Extract<TrainingRow, { readonly kind: 'preference' | 'labelled' }>,
  content: string,
  where: string,
): TokenSequence {
  return conversationTokens(model, [...row.prompt, { role: 'assistant', content }], where, {
    lastOnly: true,
    ...(row.tools === undefined ? {} : { tools: row.tools }),
  });
}

function equalTokens(one: TokenSequence, other: TokenSequence): boolean {
  return one.tokens.length === other.tokens.length && one.tokens.every((id, index) => other.tokens[index] === id);
}

/** What becomes of an example under the limit; null: it is left out. @throws CUPEL_TRAIN_ROW_TOO_LONG */
function fit(
  example: Example,
  row: TrainingRow,
  limit: number,
  overlong: Recipe['overlong'],
  begin: number | null,
  model: Model,
): Example[] | null {
  const longest = Math.max(...example.sequences.map(({ tokens }) => tokens.length));
  if (longest <= limit) return [example];
  if (overlong === 'drop') return null;
  if (overlong === 'window' && row.kind === 'text') return cutIntoWindows(example, limit, model);
  const cut = overlong === 'left' ? cutLeft(example, longest - limit, begin, model) : null;
  if (cut !== null) return [cut];
  throw tooLong(row, String(longest), limit, overlong, model);
}

function tooLong(
  row: TrainingRow,
  tokens: string,
  limit: number,
  overlong: Recipe['overlong'],
  model: Model,
): CupelError {
  const holds = limit === model.contextLength ? `the context holds ${limit}` : `the limit is ${limit}`;
  return trainErrors.CUPEL_TRAIN_ROW_TOO_LONG({
    message: `${tokens} tokens, and ${holds}${overlong === 'left' ? '; its answer leaves no room for a prompt' : ''}`,
    where: `row ${row.id}`,
  });
}

/** Conversations of more messages are measured before their labels are looked for, which reads each beginning anew. */
const manyMessages = 32;

function isFarTooLong(model: Model, row: TrainingRow, limit: number, overlong: Recipe['overlong']): boolean {
  if (overlong === 'left' || row.kind === 'text') return false;
  const messages = row.kind === 'messages' ? row.messages : row.prompt;
  if (messages.length <= manyMessages) return false;
  return model.tokenize(renderedText(model, messages, row.tools ?? [], false)).length > limit;
}

function withPromptLabels(example: Example): Example {
  const [first, ...others] = example.sequences as [TokenSequence, ...TokenSequence[]];
  const weights = first.weights.slice();
  weights.fill(1, 1, Math.max(1, first.promptLength));
  const labelledTokens = weights.reduce((count, weight) => count + (weight > 0 ? 1 : 0), 0);
  return { ...example, sequences: [{ ...first, weights, labelledTokens }, ...others] };
}
