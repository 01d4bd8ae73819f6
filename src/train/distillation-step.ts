import type { DistillationObjective, Learner } from '../contracts/index.ts';
import { trainErrors } from './errors.ts';
import type { StepItem, StepOptions, StepValue } from './objective-step.ts';
import { groupByTokens, labelWeight, labelWeights, packSequences } from './packing.ts';
import type { TokenSequence } from './sequence.ts';

/** Most numbers of one distribution list (student's, teacher's, gradient's): 64 MiB of f32 each. */
const mostNumbers = 1 << 24;

/** Most labelled tokens whose distributions are compared at once. */
function chunkOf({ topTokens }: Pick<DistillationObjective, 'topTokens'>, vocabularySize: number): number {
  return Math.max(1, Math.floor(mostNumbers / (topTokens ?? vocabularySize)));
}

/** Bytes of the three lists of one part of a step. */
export function listBytes(
  objective: Pick<DistillationObjective, 'topTokens'>,
  vocabularySize: number,
  labelledTokens: number,
): number {
  const width = objective.topTokens ?? vocabularySize;
  return 3 * 4 * width * Math.min(labelledTokens, chunkOf(objective, vocabularySize));
}

/**
 * Adds the gradient of a distillation loss over one step to the student. Replayed rows are distilled as the others are.
 * The whole vocabulary is compared in chunks of labelled tokens that fit: a sequence that has more of them goes forward
 * more than once, each time with other labels.
 * @throws CUPEL_TRAIN_TEACHER_VOCABULARY when teacher and student have vocabularies of different size.
 */
export async function distillationStep(
  student: Learner,
  teacher: Learner,
  objective: DistillationObjective,
  items: readonly StepItem[],
  vocabularySize: number,
  options: StepOptions,
): Promise<StepValue> {
  const { temperature, topTokens } = objective;
  const chunk = chunkOf(objective, vocabularySize);
  const pieces = items.flatMap(({ example }) =>
    example.sequences.flatMap((sequence) =>
      inChunks(sequence, chunk).map((piece) => ({ example: { id: example.id, sequences: [piece] } })),
    ),
  );
  const totalWeight = pieces.reduce((sum, { example }) => sum + labelWeight(example.sequences[0] as TokenSequence), 0);
  const metrics: Record<string, number> = {};
  let loss = 0;
  for (const group of groupByTokens(pieces, options.maxTokens, chunk)) {
    const sequences = group.flatMap(({ example }) => example.sequences);
    const batch = packSequences(sequences);
    const best = topTokens === null ? null : await teacher.topTokens(batch, topTokens, { temperature });
    const taught = best?.logProbabilities ?? (await teacher.distributions(batch, null, { temperature, keep: false }));
    const own = await student.distributions(batch, best?.ids ?? null, { temperature });
    const tokens = sequences.reduce((sum, { labelledTokens }) => sum + labelledTokens, 0);
    const width = own.length / Math.max(1, tokens);
    if (own.length !== taught.length) {
      throw trainErrors.CUPEL_TRAIN_TEACHER_VOCABULARY({
        message: `the student has ${width} tokens, the teacher ${taught.length / Math.max(1, tokens)}`,
        where: 'teacher',
      });
    }
    const weights = Float64Array.from(sequences.flatMap((sequence) => [...labelWeights(sequence)]));
    const value = objective.evaluate({ width, student: own, teacher: taught, weights, totalWeight });
    if (!Number.isFinite(value.loss)) options.onNotFinite([...new Set(group.map(({ example }) => example.id))]);
    loss += value.loss;
    for (const [name, metric] of Object.entries(value.metrics)) metrics[name] = (metrics[name] ?? 0) + metric;
    await student.backward(value.gradients);
  }
  return { loss, metrics };
}

/** The sequence with at most `most` labels, as often as needed. */
function inChunks(sequence: TokenSequence, most: number): TokenSequence[] {
  if (sequence.labelledTokens <= most) return [sequence];
  const labelled = [...sequence.weights.keys()].filter((position) => (sequence.weights[position] ?? 0) > 0);
  const chunks: TokenSequence[] = [];
  for (let start = 0; start < labelled.length; start += most) {
    const taken = labelled.slice(start, start + most);
    const weights = new Float64Array(sequence.weights.length);
    for (const position of taken) weights[position] = sequence.weights[position] ?? 0;
    chunks.push({ ...sequence, weights, labelledTokens: taken.length });
  }
  return chunks;
}
