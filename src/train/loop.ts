import type { Learner, Objective, ObjectiveExample, ObjectiveTotals, Recipe, TrainEvent } from '../contracts/index.ts';
import { trainErrors } from './errors.ts';
import type { Example } from './examples.ts';
import { replayOrder, stepOrder } from './order.ts';
import { groupByTokens, labelWeights, packSequences, splitBySequence, tokenCount } from './packing.ts';
import { learningRateAt } from './schedule.ts';

export interface LoopInput {
  readonly learner: Learner;
  readonly objective: Objective;
  readonly recipe: Recipe;
  readonly examples: readonly Example[];
  readonly replay: { readonly examples: readonly Example[]; readonly perStep: number } | null;
  readonly seed: number;
}

export interface LoopResult {
  readonly steps: number;
  /** Tokens that went forward for training; the reference pass not counted. */
  readonly trainedTokens: number;
  readonly losses: readonly number[];
  /** Metrics of the last step. */
  readonly metrics: Readonly<Record<string, number>>;
}

type Item = {
  readonly example: Example;
  readonly reference: readonly Float32Array[] | null;
  readonly replayed: boolean;
};

/**
 * Trains: batches → log-probabilities → objective → backward → step. Knows no loss. Gradients are those of the whole
 * step, whatever the parts it is computed in; the same input gives the same weights.
 * @throws CUPEL_TRAIN_NOT_FINITE naming step and rows.
 */
export async function trainLoop(
  input: LoopInput,
  sink: (event: TrainEvent) => void,
  signal?: AbortSignal,
): Promise<LoopResult> {
  const { learner, objective, recipe, examples, replay, seed } = input;
  const references = objective.reference
    ? await referenceLogProbabilities(learner, examples, recipe.microBatchTokens)
    : null;
  const order = stepOrder(examples.length, recipe, seed);
  const replayed = replayOrder(replay?.examples.length ?? 0, replay?.perStep ?? 0, order.length, recipe.order, seed);
  const losses: number[] = [];
  let trainedTokens = 0;
  let metrics: Readonly<Record<string, number>> = {};
  for (const [step, indices] of order.entries()) {
    signal?.throwIfAborted();
    const items: Item[] = [
      ...indices.map((index) => ({
        example: examples[index] as Example,
        reference: references?.[index] ?? null,
        replayed: false,
      })),
      ...(replayed[step] ?? []).map((index) => ({
        example: replay?.examples[index] as Example,
        reference: null,
        replayed: true,
      })),
    ];
    const value = await accumulate(learner, objective, items, recipe.microBatchTokens);
    const learningRate = learningRateAt(recipe, step, order.length);
    checkFinite(value.loss, 'loss', step, items);
    const { beta1, beta2, epsilon, weightDecay, maxGradNorm } = recipe;
    const { gradNorm } = await learner.step({ learningRate, beta1, beta2, epsilon, weightDecay, maxGradNorm });
    checkFinite(gradNorm, 'gradient norm', step, items);
    const tokens = items.reduce((sum, { example }) => sum + tokenCount(example), 0);
    trainedTokens += tokens;
    losses.push(value.loss);
    metrics = { ...value.metrics, loss: value.loss, learning_rate: learningRate, gradient_norm: gradNorm };
    sink({ type: 'step', step: step + 1, steps: order.length, loss: value.loss, metrics, tokens });
  }
  return { steps: order.length, trainedTokens, losses, metrics };
}

/**
 * Log-probabilities of the labelled tokens of every example before training, [example][sequence]. Held for the whole
 * run: the policy starts as its own reference, so a second model is never needed.
 */
async function referenceLogProbabilities(
  learner: Learner,
  examples: readonly Example[],
  maxTokens: number,
): Promise<Float32Array[][]> {
  const references: Float32Array[][] = [];
  for (const group of groupByTokens(
    examples.map((example) => ({ example })),
    maxTokens,
  )) {
    const sequences = group.flatMap(({ example }) => example.sequences);
    const parts = splitBySequence(await learner.logProbabilities(packSequences(sequences), { keep: false }), sequences);
    let start = 0;
    for (const { example } of group) references.push(parts.slice(start, (start += example.sequences.length)));
  }
  return references;
}

async function accumulate(
  learner: Learner,
  objective: Objective,
  items: readonly Item[],
  maxTokens: number,
): Promise<{ loss: number; metrics: Record<string, number> }> {
  const totals = totalsOf(items);
  const metrics: Record<string, number> = {};
  let loss = 0;
  for (const group of groupByTokens(items, maxTokens)) {
    const sequences = group.flatMap(({ example }) => example.sequences);
    const parts = splitBySequence(await learner.logProbabilities(packSequences(sequences)), sequences);
    let start = 0;
    const views = group.map(({ example, reference, replayed }) => {
      const policy = parts.slice(start, (start += example.sequences.length));
      const view: ObjectiveExample = { policy, reference, weights: example.sequences.map(labelWeights) };
      return { view, replayed };
    });
    const value = objective.evaluate({
      examples: views.filter(({ replayed }) => !replayed).map(({ view }) => view),
      replay: views.filter(({ replayed }) => replayed).map(({ view }) => view),
      totals,
    });
    loss += value.loss;
    for (const [name, metric] of Object.entries(value.metrics)) metrics[name] = (metrics[name] ?? 0) + metric;
    // Replayed items stand after the examples in every group, as in the list they were cut from.
    await learner.backward(Float32Array.from([...value.gradients, ...value.replayGradients].flat(2)));
  }
  return { loss, metrics };
}

function totalsOf(items: readonly Item[]): ObjectiveTotals {
  const labels: number[] = [];
  let replayLabelWeight = 0;
  for (const { example, replayed } of items) {
    for (const [index, sequence] of example.sequences.entries()) {
      const weight = sequence.weights.reduce((sum, value) => sum + value, 0);
      if (replayed) replayLabelWeight += weight;
      else labels[index] = (labels[index] ?? 0) + weight;
    }
  }
  return { examples: items.filter(({ replayed }) => !replayed).length, labelWeights: labels, replayLabelWeight };
}

function checkFinite(value: number, what: string, step: number, items: readonly Item[]): void {
  if (Number.isFinite(value)) return;
  const rows = items.map(({ example }) => example.id);
  throw trainErrors.CUPEL_TRAIN_NOT_FINITE({
    message: `the ${what} of step ${step + 1} is ${value}`,
    where: `rows ${rows.slice(0, 8).join(', ')}${rows.length > 8 ? ` and ${rows.length - 8} more` : ''}`,
  });
}
