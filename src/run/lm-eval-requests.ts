import { runErrors } from './errors.ts';

/** What lm-evaluation-harness asks a model's tokenizer about. */
export interface LmEvalVocabulary {
  /** Token ids of a text; special tokens in the text are parsed, none are added. */
  readonly tokenize: (text: string) => readonly number[];
  /** Id of the token that stands for an empty context: the beginning of sequence, else its end. */
  readonly prefixToken: number;
  /** The text of `prefixToken`, only if the checkpoint's tokenizer puts that token before every text. */
  readonly addedPrefix?: string;
  /** Most tokens that the model reads at once. */
  readonly maxLength: number;
}

/** Tokens to read and tokens to score after them; the first holds at least one. */
export interface TokenPair {
  readonly contextIds: readonly number[];
  readonly continuationIds: readonly number[];
}

/** White space as Python's `str.rstrip` sees it, which is not quite what JavaScript trims. */
const trailingSpace = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+$/;

/**
 * Tokens of a log-likelihood request as lm-evaluation-harness 0.4 makes them: white space at the end of the context
 * belongs to the continuation; the continuation is what the tokens of both together have beyond the context's; an empty
 * context is the prefix token, unless the continuation begins with it; what is too long is cut from the left. Context and
 * continuation may together hold one token more than the model reads at once, as the last one is only predicted.
 * A context of white space alone, at which the harness stops, counts as empty.
 *
 * @throws CUPEL_RUN_WINDOW_EXCEEDED if the continuation alone is longer than the model reads at once.
 * @throws CUPEL_RUN_SCORE_INVALID if the continuation has no token of its own.
 */
export function logLikelihoodTokens(vocabulary: LmEvalVocabulary, context: string, continuation: string): TokenPair {
  const read = context.replace(trailingSpace, '');
  const whole = context + continuation;
  const { contextIds, continuationIds } =
    read === '' ? afterNothing(vocabulary, whole) : afterContext(vocabulary, read, whole);
  if (continuationIds.length === 0) {
    throw runErrors.CUPEL_RUN_SCORE_INVALID({
      message: `the continuation ${JSON.stringify(continuation)} has no token of its own after its context`,
    });
  }
  if (continuationIds.length > vocabulary.maxLength) {
    throw runErrors.CUPEL_RUN_WINDOW_EXCEEDED({
      message: `the continuation has ${continuationIds.length} tokens, the model reads ${vocabulary.maxLength}`,
    });
  }
  return { contextIds: contextIds.slice(-(vocabulary.maxLength + 1 - continuationIds.length)), continuationIds };
}

/**
 * Windows of a rolling log-likelihood: together they score every token of the text once. The first starts after the
 * prefix token; each later one is filled from the left with tokens that were scored before. A text's log-likelihood is
 * the sum over its windows; an empty text has none.
 */
export function rollingTokens(vocabulary: LmEvalVocabulary, text: string): readonly TokenPair[] {
  const { maxLength, prefixToken } = vocabulary;
  const ids = encode(vocabulary, text);
  const windows: TokenPair[] = [];
  for (let begin = 0; begin < ids.length; begin += maxLength) {
    const end = Math.min(begin + maxLength, ids.length);
    const contextIds = begin === 0 ? [prefixToken] : ids.slice(Math.max(0, end - maxLength - 1), begin);
    windows.push({ contextIds, continuationIds: ids.slice(begin, end) });
  }
  return windows;
}

/**
 * Tokens of a prompt, cut from the left so that `maxTokens` fit behind it.
 *
 * @throws CUPEL_RUN_WINDOW_EXCEEDED if no token of the prompt is left.
 */
export function promptTokens(vocabulary: LmEvalVocabulary, context: string, maxTokens: number): readonly number[] {
  const room = vocabulary.maxLength - maxTokens;
  if (room < 1) {
    throw runErrors.CUPEL_RUN_WINDOW_EXCEEDED({
      message: `${maxTokens} tokens are to be generated, the model reads ${vocabulary.maxLength} with their prompt`,
    });
  }
  return encode(vocabulary, context).slice(-room);
}

/** A completion as the harness keeps it: what stands before the first of each stop text, one after the other. */
export function cutAtStops(text: string, stops: readonly string[]): string {
  return stops.reduce((kept, stop) => (stop === '' ? kept : (kept.split(stop, 1)[0] ?? '')), text);
}

function afterNothing({ tokenize, prefixToken }: LmEvalVocabulary, continuation: string): TokenPair {
  const ids = tokenize(continuation);
  return ids[0] === prefixToken
    ? { contextIds: ids.slice(0, 1), continuationIds: ids.slice(1) }
    : { contextIds: [prefixToken], continuationIds: ids };
}

function afterContext(vocabulary: LmEvalVocabulary, context: string, whole: string): TokenPair {
  const contextIds = encode(vocabulary, context);
  return { contextIds, continuationIds: encode(vocabulary, whole).slice(contextIds.length) };
}

function encode({ tokenize, prefixToken, addedPrefix }: LmEvalVocabulary, text: string): readonly number[] {
  const ids = tokenize(text);
  return addedPrefix === undefined || text.startsWith(addedPrefix) ? ids : [prefixToken, ...ids];
}
