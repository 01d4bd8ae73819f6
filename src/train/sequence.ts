import type { Model, TrainingMessage } from '../contracts/index.ts';
import { trainErrors } from './errors.ts';

/** Token ids of one sequence with the weight of the loss on each; 0 = not labelled. The first token never is. */
export interface TokenSequence {
  readonly tokens: Int32Array;
  readonly weights: Float64Array;
  /** How many weights are above 0. */
  readonly labelledTokens: number;
}

/**
 * A conversation as tokens, through the model's own template and tokenizer. Labelled are the contents of the
 * assistant messages (or of the last one alone) and the end-of-turn token after each; not what a template
 * writes after that.
 * @throws CUPEL_TRAIN_NOT_A_PREFIX, CUPEL_TRAIN_NO_END_OF_TURN, CUPEL_TRAIN_SPECIAL_TOKEN_IN_TEXT,
 * CUPEL_TRAIN_TOKEN_OUT_OF_RANGE; `where` names the row.
 */
export function conversationTokens(
  model: Model,
  messages: readonly TrainingMessage[],
  where: string,
  options: { readonly lastOnly?: boolean } = {},
): TokenSequence {
  const tokensUpTo = (count: number, addGenerationPrompt: boolean): readonly number[] => {
    const shown = messages.slice(0, count).map(({ role, content }) => ({ role, content }));
    return model.tokenize(model.render(shown, { addGenerationPrompt }));
  };
  const full = tokensUpTo(messages.length, false);
  const weights = new Float64Array(full.length);
  for (const [index, message] of messages.entries()) {
    const weight = options.lastOnly === true && index < messages.length - 1 ? 0 : weightOf(message);
    if (weight === 0) continue;
    const prompt = tokensUpTo(index, true);
    const through = index === messages.length - 1 ? full : tokensUpTo(index + 1, false);
    checkPrefix(prompt, through, model, where);
    checkPrefix(through, full, model, where);
    const end = through.indexOf(model.endOfTurn, prompt.length);
    if (end < 0) {
      throw trainErrors.CUPEL_TRAIN_NO_END_OF_TURN({
        message: `after message ${index} there is no token ${model.endOfTurn} (end of turn)`,
        where,
      });
    }
    checkSpan(model, through, prompt.length, end, message.content, where);
    weights.fill(weight, prompt.length, end + 1);
  }
  return sequenceOf(full, weights, model, where);
}

/** A plain document as tokens; all but the first are labelled, and it ends with the end-of-turn token. */
export function documentTokens(model: Model, text: string, where: string): TokenSequence {
  const tokens = [...model.tokenize(text)];
  if (tokens.at(-1) !== model.endOfTurn) tokens.push(model.endOfTurn);
  const weights = new Float64Array(tokens.length).fill(1);
  weights[0] = 0;
  return sequenceOf(tokens, weights, model, where);
}

function weightOf(message: TrainingMessage): number {
  return message.weight ?? (message.role === 'assistant' ? 1 : 0);
}

function sequenceOf(tokens: readonly number[], weights: Float64Array, model: Model, where: string): TokenSequence {
  const stranger = tokens.find((id) => id < 0 || id >= model.vocabularySize);
  if (stranger !== undefined) {
    throw trainErrors.CUPEL_TRAIN_TOKEN_OUT_OF_RANGE({
      message: `token ${stranger} is outside the vocabulary of ${model.vocabularySize}`,
      where,
    });
  }
  const labelledTokens = weights.reduce((count, weight) => count + (weight > 0 ? 1 : 0), 0);
  if (labelledTokens === 0) {
    throw trainErrors.CUPEL_TRAIN_NOTHING_TO_LEARN({ message: 'no token of this row is labelled', where });
  }
  return { tokens: Int32Array.from(tokens), weights, labelledTokens };
}

function checkPrefix(prefix: readonly number[], full: readonly number[], model: Model, where: string): void {
  const at = prefix.findIndex((id, index) => full[index] !== id);
  if (at < 0) return;
  const shown = (ids: readonly number[]): string =>
    JSON.stringify(model.detokenize(ids.slice(Math.max(0, at - 4), at + 4)));
  throw trainErrors.CUPEL_TRAIN_NOT_A_PREFIX({
    message: `tokens differ at position ${at}: prompt ${shown(prefix)}, conversation ${shown(full)}`,
    where,
  });
}

function checkSpan(
  model: Model,
  tokens: readonly number[],
  start: number,
  end: number,
  content: string,
  where: string,
): void {
  const trained = model.detokenize(tokens.slice(start, end));
  if (trained.trim() === content.trim() && !tokens.slice(end + 1).includes(model.endOfTurn)) return;
  throw trainErrors.CUPEL_TRAIN_SPECIAL_TOKEN_IN_TEXT({
    message: `trained would be ${JSON.stringify(trained.slice(0, 80))} for the answer ${JSON.stringify(content.slice(0, 80))}`,
    where,
  });
}
