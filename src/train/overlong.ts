import type { Model } from '../contracts/index.ts';
import type { Example } from './example.ts';
import { sequenceOf, type TokenSequence } from './sequence.ts';

/**
 * Leaves out the first `count` tokens of each sequence; a token that opens the sequence stays. Null where the last
 * answer would be touched, or be left without a prompt.
 */
export function cutLeft(
  example: Example,
  count: number,
  begin: number | null,
  model: Pick<Model, 'vocabularySize'>,
): Example | null {
  let lostLabels = 0;
  const sequences: TokenSequence[] = [];
  for (const sequence of example.sequences) {
    const { tokens, weights, promptLength } = sequence;
    const kept = begin !== null && tokens[0] === begin ? 1 : 0;
    const from = kept + count;
    // The token that predicts the first of the answer has to stay.
    if (from >= startOfLastAnswer(weights)) return null;
    const ids = [...tokens.subarray(0, kept), ...tokens.subarray(from)];
    const rest = Float64Array.from([...weights.subarray(0, kept), ...weights.subarray(from)]);
    rest[0] = 0;
    const shorter = sequenceOf(ids, rest, Math.max(1, promptLength - count), model, `row ${example.id}`);
    lostLabels += sequence.labelledTokens - shorter.labelledTokens;
    sequences.push(shorter);
  }
  return { ...example, sequences, cutTokens: count, ...(lostLabels === 0 ? {} : { lostLabels }) };
}

/** A document as examples of at most `limit` tokens: each starts with the last token of the one before, unlabelled. */
export function cutIntoWindows(
  example: Example,
  limit: number,
  model: Pick<Model, 'vocabularySize'>,
): Example[] | null {
  const [document] = example.sequences as [TokenSequence];
  if (limit < 2) return null;
  const windows: Example[] = [];
  for (let start = 0; start + 1 < document.tokens.length; start += limit - 1) {
    const weights = document.weights.slice(start, start + limit);
    weights[0] = 0;
    const id = `${example.id}#${windows.length + 1}`;
    const tokens = document.tokens.subarray(start, start + limit);
    const cutTokens = document.tokens.length - tokens.length;
    windows.push({
      ...example,
      id,
      cutTokens,
      sequences: [sequenceOf(tokens, weights, 0, model, `row ${id}`)],
    });
  }
  return windows;
}

function startOfLastAnswer(weights: Float64Array): number {
  let position = weights.length - 1;
  while (position > 0 && weights[position] === 0) position--;
  while (position > 0 && (weights[position - 1] ?? 0) > 0) position--;
  return position;
}
