import type { Model, PreparedSequence, ToolDefinition, TrainingMessage } from '../contracts/index.ts';
import { isCupelError } from '../kit/index.ts';
import { trainErrors } from './errors.ts';

/** A prepared sequence that knows how many of its weights are above 0. */
export interface TokenSequence extends PreparedSequence {
  readonly labelledTokens: number;
}

export interface ConversationOptions {
  /** Label the last message alone. */
  readonly lastOnly?: boolean;
  readonly tools?: readonly ToolDefinition[];
}

/**
 * A conversation as tokens, through the model's own template and tokenizer. Labelled are the contents of the
 * assistant messages (or of the last one alone) and the end-of-turn token after each; not what a template
 * writes after that. What the assistant calls counts as content, as the template writes it, and so does what it writes
 * at the start of every answer after the prompt, such as an empty block of thoughts: the model has to write it.
 * @throws CUPEL_TRAIN_NOT_A_PREFIX, CUPEL_TRAIN_NO_END_OF_TURN, CUPEL_TRAIN_SPECIAL_TOKEN_IN_TEXT,
 * CUPEL_TRAIN_TOKEN_OUT_OF_RANGE, CUPEL_TRAIN_TURN_NOT_ASSISTANT, CUPEL_TRAIN_TEMPLATE_DROPS,
 * CUPEL_TRAIN_NOTHING_TO_LEARN; `where` names the row.
 */
export function conversationTokens(
  model: Model,
  messages: readonly TrainingMessage[],
  where: string,
  options: ConversationOptions = {},
): TokenSequence {
  const { lastOnly = false, tools = [] } = options;
  const textUpTo = (count: number, addGenerationPrompt: boolean): string =>
    renderedText(model, messages.slice(0, count), tools, addGenerationPrompt);
  const wholeText = textUpTo(messages.length, false);
  const dropped = tools.find(({ name }) => !wholeText.includes(name));
  if (dropped !== undefined) {
    throw trainErrors.CUPEL_TRAIN_TEMPLATE_DROPS({
      message: `the template does not write tool "${dropped.name}"`,
      where,
    });
  }
  const full = model.tokenize(wholeText);
  const weights = new Float64Array(full.length);
  let promptLength = full.length;
  for (const [index, message] of messages.entries()) {
    const weight = lastOnly && index < messages.length - 1 ? 0 : weightOf(message);
    if (weight === 0) continue;
    if (message.role !== 'assistant') {
      throw trainErrors.CUPEL_TRAIN_TURN_NOT_ASSISTANT({
        message: `message ${index} is of role "${message.role}" and has weight ${weight}`,
        where,
      });
    }
    const prompt = model.tokenize(textUpTo(index, true));
    const through = index === messages.length - 1 ? full : model.tokenize(textUpTo(index + 1, false));
    checkPrefix(prompt, through, model, where);
    checkPrefix(through, full, model, where);
    const end = through.indexOf(model.endOfTurn, prompt.length);
    if (end < 0) {
      throw trainErrors.CUPEL_TRAIN_NO_END_OF_TURN({
        message: `after message ${index} there is no token ${model.endOfTurn} (end of turn)`,
        where,
      });
    }
    const head = (): string => {
      const other = { role: message.role, content: 'x' };
      const text = renderedText(model, [...messages.slice(0, index), other], tools, false);
      const tokens = model.tokenize(text).slice(prompt.length);
      return model
        .detokenize(tokens.slice(0, tokens.indexOf(model.endOfTurn)))
        .trimEnd()
        .replace(/x$/u, '');
    };
    checkSpan(model, through, prompt.length, end, message, where, head);
    weights.fill(weight, prompt.length, end + 1);
    promptLength = Math.min(promptLength, prompt.length);
  }
  return sequenceOf(full, weights, promptLength, model, where);
}

/** Messages as the template writes them, without what is only said about their training. */
export function renderedText(
  model: Model,
  messages: readonly TrainingMessage[],
  tools: readonly ToolDefinition[],
  addGenerationPrompt: boolean,
): string {
  const shown = messages.map(({ role, content, name, toolCalls }) => ({
    role,
    content,
    ...(name === undefined ? {} : { name }),
    ...(toolCalls === undefined ? {} : { toolCalls }),
  }));
  return model.render(shown, { addGenerationPrompt, ...(tools.length === 0 ? {} : { tools }) });
}

/**
 * A plain document as tokens; all but the first are labelled, and it ends with the end-of-turn token. It opens with the
 * token that opens a sequence where the model's conversations do.
 */
export function documentTokens(model: Model, text: string, where: string): TokenSequence {
  const tokens = [...model.tokenize(text)];
  if (tokens.at(-1) !== model.endOfTurn) tokens.push(model.endOfTurn);
  const begin = opensWith(model);
  if (begin !== null && tokens[0] !== begin) tokens.unshift(begin);
  const weights = new Float64Array(tokens.length).fill(1);
  weights[0] = 0;
  return sequenceOf(tokens, weights, 0, model, where);
}

/**
 * The token that opens a sequence, where the model has one and its template writes it once, at the start; else null.
 * Where a template opens every turn with it, it opens no sequence. A base without a template, which learns documents
 * alone, has it as its tokenizer says.
 */
export function opensWith(model: Model): number | null {
  const begin = model.beginOfSequence ?? null;
  if (begin === null) return null;
  const text = renderedRoles(model, ['user', 'assistant', 'user'], false);
  if (text === null) return begin;
  const tokens = model.tokenize(text);
  return tokens[0] === begin && tokens.lastIndexOf(begin) === 0 ? begin : null;
}

/** What the template writes for messages of one letter; null where it refuses such a conversation, or there is none. */
export function renderedRoles(
  model: Model,
  roles: readonly TrainingMessage['role'][],
  addGenerationPrompt: boolean,
): string | null {
  try {
    return model.render(
      roles.map((role) => ({ role, content: 'x' })),
      { addGenerationPrompt },
    );
  } catch (error) {
    if (isCupelError(error)) return null;
    throw error;
  }
}

/** A sequence with these weights. @throws CUPEL_TRAIN_TOKEN_OUT_OF_RANGE, CUPEL_TRAIN_NOTHING_TO_LEARN */
export function sequenceOf(
  tokens: ArrayLike<number>,
  weights: Float64Array,
  promptLength: number,
  model: Pick<Model, 'vocabularySize'>,
  where: string,
): TokenSequence {
  const ids = Int32Array.from(tokens);
  const stranger = ids.find((id) => id < 0 || id >= model.vocabularySize);
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
  return { tokens: ids, weights, promptLength, labelledTokens };
}

function weightOf(message: TrainingMessage): number {
  return message.weight ?? (message.role === 'assistant' ? 1 : 0);
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

/** @param head what the template writes between the prompt and an answer without calls, whatever the answer says */
function checkSpan(
  model: Model,
  tokens: readonly number[],
  start: number,
  end: number,
  message: TrainingMessage,
  where: string,
  head: () => string,
): void {
  const { toolCalls = [] } = message;
  // A tokenizer may write a character in another normal form; that is the same text.
  const [trained, content] = [model.detokenize(tokens.slice(start, end)), message.content].map((text) =>
    text.normalize('NFKC'),
  ) as [string, string];
  const missing = toolCalls
    .flatMap(({ name, arguments: values }) => [name, ...Object.keys(values)])
    .find((part) => !trained.includes(part.normalize('NFKC')));
  if (missing !== undefined) {
    throw trainErrors.CUPEL_TRAIN_TEMPLATE_DROPS({
      message: `the template does not write "${missing}" of a tool call`,
      where,
    });
  }
  // Around calls a template writes marks of its own.
  const same =
    toolCalls.length === 0
      ? trained.trim() === content.trim() || trained.trim() === (head() + content.trim()).trim()
      : trained.includes(content.trim());
  if (same && !tokens.includes(model.endOfTurn, end + 1)) return;
  throw trainErrors.CUPEL_TRAIN_SPECIAL_TOKEN_IN_TEXT({
    message: `trained would be ${JSON.stringify(trained.slice(0, 80))} for the answer ${JSON.stringify(content.slice(0, 80))}`,
    where,
  });
}
