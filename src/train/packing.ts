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

export function tokenCount(example: Example): number {
  return example.sequences.reduce((sum, { tokens }) => sum + tokens.length, 0);
}

/** Groups consecutive examples so that each group has at most `maxTokens` tokens, or a single example. */
export function groupByTokens<T extends { readonly example: Example }>(items: readonly T[], maxTokens: number): T[][] {
  const groups: T[][] = [];
  let used = Infinity;
  for (const item of items) {
    const tokens = tokenCount(item.example);
    if (used + tokens > maxTokens) {
      groups.push([]);
      used = 0;
    }
    groups.at(-1)?.push(item);
    used += tokens;
  }
  return groups;
}
