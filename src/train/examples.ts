import type { Model, Objective, Recipe, TrainEvent, TrainingRow } from '../contracts/index.ts';
import { conversationTokens, documentTokens, type TokenSequence } from './sequence.ts';
import { trainErrors } from './errors.ts';

/** A row as token sequences: one, or chosen and rejected. */
export interface Example {
  readonly id: string;
  readonly sequences: readonly TokenSequence[];
}

/**
 * Rows as token sequences, all checked before the first step.
 * @param sequences `answer` takes rows of every kind (of a preference row the chosen answer); `pair` preference rows alone.
 * @throws the errors of `conversationTokens`; CUPEL_TRAIN_ROW_TOO_LONG, CUPEL_TRAIN_ROW_KIND, CUPEL_TRAIN_PAIR_EQUAL,
 * CUPEL_TRAIN_NOTHING_TO_LEARN when no row is left.
 */
export function prepareExamples(
  model: Model,
  rows: readonly TrainingRow[],
  sequences: Objective['sequences'],
  overlong: Recipe['overlong'],
  sink: (event: TrainEvent) => void = () => {},
): Example[] {
  const examples: Example[] = [];
  const dropped: string[] = [];
  for (const row of rows) {
    const example: Example = {
      id: row.id,
      sequences: sequences === 'pair' ? pairOf(model, row) : [answerOf(model, row)],
    };
    const longest = Math.max(...example.sequences.map(({ tokens }) => tokens.length));
    if (longest <= model.contextLength) examples.push(example);
    else if (overlong === 'drop') dropped.push(row.id);
    else {
      throw trainErrors.CUPEL_TRAIN_ROW_TOO_LONG({
        message: `${longest} tokens, and the context holds ${model.contextLength}`,
        where: `row ${row.id}`,
      });
    }
  }
  if (dropped.length > 0) {
    sink({
      type: 'warning',
      code: 'CUPEL_TRAIN_ROW_TOO_LONG',
      message: `${dropped.length} of ${rows.length} rows are longer than the context and were left out: ${dropped.slice(0, 5).join(', ')}`,
    });
  }
  if (examples.length === 0) {
    throw trainErrors.CUPEL_TRAIN_NOTHING_TO_LEARN({
      message: `no row is left to train on, of ${rows.length}`,
      where: 'data',
    });
  }
  return examples;
}

function answerOf(model: Model, row: TrainingRow): TokenSequence {
  const where = `row ${row.id}`;
  if (row.kind === 'messages') return conversationTokens(model, row.messages, where);
  if (row.kind === 'text') return documentTokens(model, row.text, where);
  return conversationTokens(model, [...row.prompt, { role: 'assistant', content: row.chosen }], where, {
    lastOnly: true,
  });
}

function pairOf(model: Model, row: TrainingRow): TokenSequence[] {
  const where = `row ${row.id}`;
  if (row.kind !== 'preference') {
    throw trainErrors.CUPEL_TRAIN_ROW_KIND({
      message: `a row of kind "${row.kind}" has no chosen and rejected answer`,
      where,
    });
  }
  const pair = [row.chosen, row.rejected].map((content) =>
    conversationTokens(model, [...row.prompt, { role: 'assistant', content }], where, { lastOnly: true }),
  );
  const [chosen, rejected] = pair as [TokenSequence, TokenSequence];
  if (
    chosen.tokens.length === rejected.tokens.length &&
    chosen.tokens.every((id, index) => rejected.tokens[index] === id)
  ) {
    throw trainErrors.CUPEL_TRAIN_PAIR_EQUAL({
      message: `both answers are ${JSON.stringify(row.chosen.slice(0, 80))}`,
      where,
    });
  }
  return pair;
}
