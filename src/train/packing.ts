import type { TokenBatch } from '../contracts/index.ts';
import type { Example } from './examples.ts';
import type { TokenSequence } from './sequence.ts';

/** Sequences one after another, without padding; each attends to itself alone. */
export function packSequences(sequences: readonly TokenSequence[]): TokenBatch {
  const offsets = new Int32Array(sequences.length + 1);
  for (const [index, { tokens }] of sequences.entries()) offsets[index + 1] = (offsets[index] ?? 0) + tokens.length;
  const total = offsets[sequences.length] ?? 0;
  const tokens = new Int32Array(total);
  const labelled = new Uint8Array(total);
  for (const [index, sequence] of sequences.entries()) {
    const start = offsets[index] ?? 0;
    tokens.set(sequence.tokens, start);
    for (const [position, weight] of sequence.weights.entries()) labelled[start + position] = weight > 0 ? 1 : 0;
  }
  return { tokens, offsets, labelled };
}

/** Cuts a list of labelled-token values into those of each sequence. */
export function splitBySequence(values: Float32Array, sequences: readonly TokenSequence[]): Float32Array[] {
  let start = 0;
  return sequences.map(({ labelledTokens }) => values.subarray(start, (start += labelledTokens)));
}

/** Weights of the labelled tokens of a sequence, in order. */
export function labelWeights(sequence: TokenSequence): Float64Array {
  return sequence.weights.filter((weight) => weight > 0);
}

/** Sum of the weights of a sequence. */
export function labelWeight(sequence: TokenSequence): number {
  return sequence.weights.reduce((sum, weight) => sum + weight, 0);
}

export function tokenCount(example: Pick<Example, 'sequences'>): number {
  return example.sequences.reduce((sum, { tokens }) => sum + tokens.length, 0);
}

export function labelledCount(example: Pick<Example, 'sequences'>): number {
  return example.sequences.reduce((sum, { labelledTokens }) => sum + labelledTokens, 0);
}

/**
 * Parts of a step: runs of examples of at most `maxTokens` tokens (and `maxLabelled` labelled ones), or a single
 * example. Runs, never a new order by length: without padding a mixed part costs what a sorted one does, and sums in
 * order of position then stay what they are, whatever the parts.
 */
export function groupByTokens<T extends { readonly example: Pick<Example, 'sequences'> }>(
  items: readonly T[],
  maxTokens: number,
  maxLabelled = Infinity,
): T[][] {
  const groups: T[][] = [];
  let [used, labelled] = [0, 0];
  for (const item of items) {
    const [tokens, labels] = [tokenCount(item.example), labelledCount(item.example)];
    if (groups.length === 0 || used + tokens > maxTokens || labelled + labels > maxLabelled) {
      groups.push([]);
      [used, labelled] = [0, 0];
    }
    groups.at(-1)?.push(item);
    used += tokens;
    labelled += labels;
  }
  return groups;
}
