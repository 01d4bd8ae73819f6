import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Learner, Objective, TrainEvent } from '../contracts/index.ts';
import { digestOf, sha256, writeFileAtomic } from '../kit/index.ts';
import { trainErrors } from './errors.ts';
import type { Example } from './examples.ts';
import { forwardSequences } from './objective-step.ts';
import type { TokenSequence } from './sequence.ts';
import { warn } from './warn.ts';

/** Log-probabilities of the model as it was before the first step. */
export interface References {
  /** Of the sequences of an example. */
  of(index: number): readonly Float32Array[] | null;
  /** Of the prompt of the example at `place` of a step with the answer of the next one; null where none is wanted. */
  mismatched(indices: readonly number[], place: number): Mismatched | null;
}

interface Mismatched {
  readonly sequence: TokenSequence;
  readonly reference: Float32Array;
}

export interface ReferenceInput {
  readonly learner: Learner;
  readonly objective: Pick<Objective, 'reference' | 'mismatched'>;
  readonly examples: readonly Example[];
  /** Example indices of every step: they say which prompts meet which answers. */
  readonly order: readonly (readonly number[])[];
  readonly maxTokens: number;
  readonly contextLength: number;
  /** Whether the learner has adapters: its base alone is the reference then. */
  readonly adapter: boolean;
  /** Folder for the cache; null: none. */
  readonly folder: string | null;
  /** What decides the numbers beside the tokens: digest of the base, engine, compute settings. */
  readonly identity: unknown;
  readonly signal?: AbortSignal | undefined;
}

/** Sequences that are made when they are asked for: those of mismatched pairs are too many to be kept. */
interface Wanted {
  readonly count: number;
  at(place: number): TokenSequence;
}

/**
 * Computes them once, before the first step: the policy starts as its own reference, so a second model is never needed.
 * Only examples that a step takes are read. Kept by content, with a checksum; a damaged file is told and computed anew.
 * Held are 4 bytes a labelled token.
 * @returns null where the objective reads none
 * @throws CUPEL_TRAIN_MISMATCH_NEEDS_TWO
 */
export async function referencesOf(
  input: ReferenceInput,
  sink: (event: TrainEvent) => void,
): Promise<References | null> {
  const { objective, examples, order, contextLength } = input;
  if (!objective.reference && objective.mismatched !== true) return null;
  if (objective.mismatched === true && examples.length < 2) {
    throw trainErrors.CUPEL_TRAIN_MISMATCH_NEEDS_TWO({ message: 'there is one example', where: 'data' });
  }
  const own: TokenSequence[] = [];
  const firstOf = new Map<number, number>();
  for (const index of objective.reference ? takenExamples(order) : []) {
    firstOf.set(index, own.length);
    for (const sequence of examples[index]?.sequences ?? []) own.push(sequence);
  }
  const places = new Map<number, number>();
  const pairs: (readonly [prompt: number, answer: number])[] = [];
  for (const indices of objective.mismatched === true ? order : []) {
    for (const place of indices.keys()) {
      const pair = partners(indices, place, examples.length);
      const key = keyOfPair(pair, examples.length);
      if (places.has(key)) continue;
      places.set(key, own.length + pairs.length);
      pairs.push(pair);
    }
  }
  const meeting = ([prompt, answer]: readonly [number, number]): TokenSequence =>
    mismatch(first(examples, prompt), first(examples, answer), contextLength);
  const wanted: Wanted = {
    count: own.length + pairs.length,
    at: (place) => own[place] ?? meeting(pairs[place - own.length] ?? [0, 0]),
  };
  const { starts, values } = await cached(input, wanted, sink);
  const listAt = (place: number): Float32Array => values.subarray(starts[place], starts[place + 1]);
  return {
    of: (index) => {
      const start = firstOf.get(index);
      return start === undefined ? null : (examples[index]?.sequences ?? []).map((_, at) => listAt(start + at));
    },
    mismatched: (indices, place) => {
      const pair = partners(indices, place, examples.length);
      const at = places.get(keyOfPair(pair, examples.length));
      return at === undefined ? null : { sequence: meeting(pair), reference: listAt(at) };
    },
  };
}

/** Indices of the examples that any step takes, in order of the data. */
export function takenExamples(order: readonly (readonly number[])[]): number[] {
  const taken = new Set<number>();
  for (const indices of order) for (const index of indices) taken.add(index);
  return [...taken].sort((a, b) => a - b);
}

function keyOfPair([prompt, answer]: readonly [number, number], count: number): number {
  return prompt * count + answer;
}

/** A step of one example takes the answer of the next example of the data, which is another. */
function partners(indices: readonly number[], place: number, count: number): [number, number] {
  const prompt = indices[place] ?? 0;
  return [prompt, indices.length > 1 ? (indices[(place + 1) % indices.length] ?? 0) : (prompt + 1) % count];
}

function first(examples: readonly Example[], index: number): TokenSequence {
  return examples[index]?.sequences[0] as TokenSequence;
}

/** The prompt of one sequence with the answer of another; what does not fit the context is cut off the answer's end. */
function mismatch(prompt: TokenSequence, answer: TokenSequence, contextLength: number): TokenSequence {
  const end = Math.min(answer.tokens.length, Math.max(1, contextLength - prompt.promptLength) + answer.promptLength);
  const tokens = Int32Array.from([
    ...prompt.tokens.subarray(0, prompt.promptLength),
    ...answer.tokens.subarray(answer.promptLength, end),
  ]);
  const weights = new Float64Array(tokens.length);
  weights.set(answer.weights.subarray(answer.promptLength, end), prompt.promptLength);
  const labelledTokens = weights.reduce((count, weight) => count + (weight > 0 ? 1 : 0), 0);
  return { tokens, weights, labelledTokens, promptLength: prompt.promptLength };
}

/** Log-probabilities one sequence after another; those of sequence i lie from `starts[i]` to `starts[i + 1]`. */
interface Kept {
  readonly starts: Float64Array;
  readonly values: Float32Array;
}

async function cached(input: ReferenceInput, wanted: Wanted, sink: (event: TrainEvent) => void): Promise<Kept> {
  const starts = new Float64Array(wanted.count + 1);
  for (let place = 0; place < wanted.count; place++) {
    starts[place + 1] = (starts[place] ?? 0) + wanted.at(place).labelledTokens;
  }
  const count = starts[wanted.count] ?? 0;
  if (input.folder === null) return { starts, values: await compute(input, wanted, starts) };
  const file = join(input.folder, `${keyOf(input, wanted)}.bin`);
  const bytes = await readFile(file).catch(() => null);
  if (bytes !== null) {
    const numbers = bytes.subarray(32);
    if (numbers.length === 4 * count && sha256(numbers) === bytes.subarray(0, 32).toString('hex')) {
      // A copy: the bytes behind a 32-byte head of a pooled buffer need not start at a multiple of 4.
      return { starts, values: new Float32Array(new Uint8Array(numbers).buffer) };
    }
    warn(sink, 'CUPEL_TRAIN_REFERENCES_DAMAGED', `${file} is damaged: reference log-probabilities are computed anew`);
  }
  const values = await compute(input, wanted, starts);
  const numbers = new Uint8Array(values.buffer);
  await writeFileAtomic(file, Buffer.concat([Buffer.from(sha256(numbers), 'hex'), numbers])).catch((error: unknown) => {
    warn(sink, 'CUPEL_TRAIN_REFERENCES_NOT_KEPT', `${file}: ${(error as Error).message}`);
  });
  return { starts, values };
}

function keyOf({ identity }: ReferenceInput, wanted: Wanted): string {
  const hash = createHash('sha256').update(digestOf(identity));
  for (let place = 0; place < wanted.count; place++) {
    const { tokens, weights } = wanted.at(place);
    const labels = Uint8Array.from(weights, (weight) => (weight > 0 ? 1 : 0));
    const length = Uint32Array.of(tokens.length);
    for (const part of [length, tokens, labels]) {
      hash.update(new Uint8Array(part.buffer, part.byteOffset, part.byteLength));
    }
  }
  return hash.digest('hex');
}

async function compute(input: ReferenceInput, wanted: Wanted, starts: Float64Array): Promise<Float32Array> {
  const values = new Float32Array(starts[wanted.count] ?? 0);
  const options = input.adapter ? { keep: false, adapter: false } : { keep: false };
  let start = 0;
  let written = 0;
  while (start < wanted.count) {
    input.signal?.throwIfAborted();
    const packed: TokenSequence[] = [];
    for (let tokens = 0; start < wanted.count; start++) {
      const sequence = wanted.at(start);
      tokens += sequence.tokens.length;
      if (packed.length > 0 && tokens > input.maxTokens) break;
      packed.push(sequence);
    }
    for (const list of await forwardSequences(input.learner, 'tokens', packed, options)) {
      values.set(list, written);
      written += list.length;
    }
  }
  return values;
}
