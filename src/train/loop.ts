import type { DistillationObjective, Learner, Objective, Recipe, TrainEvent } from '../contracts/index.ts';
import { distillationStep } from './distillation-step.ts';
import { trainErrors } from './errors.ts';
import type { Example } from './examples.ts';
import { objectiveStep, type StepItem, type StepOptions, type StepValue } from './objective-step.ts';
import { replayOrder, stepOrder } from './order.ts';
import { tokenCount } from './packing.ts';
import { type References, referencesOf } from './references.ts';
import { learningRateAt } from './schedule.ts';
import { warn } from './warn.ts';

export interface LoopInput {
  readonly learner: Learner;
  readonly objective: Objective | DistillationObjective;
  readonly recipe: Recipe;
  readonly examples: readonly Example[];
  readonly replay: { readonly examples: readonly Example[]; readonly perStep: number } | null;
  readonly seed: number;
  /** Log-probabilities before the first step. Absent: computed here, where the objective reads them. */
  readonly references?: References | null;
  /** For distillation: the teacher, and how many tokens both know. */
  readonly teacher?: { readonly learner: Learner; readonly vocabularySize: number } | null;
  /** Where an interrupted run goes on; the learner is in the state of that step already. */
  readonly from?: LoopProgress | null;
  /** Called after each step. True: stop here, as if it had been the last. */
  readonly afterStep?: (progress: LoopProgress, step: FinishedStep) => Promise<boolean>;
  /** Named when training stops on a value that is not finite. */
  readonly lastGood?: () => string | null;
}

/** How far a run has come. */
export interface LoopProgress {
  /** Optimiser steps that were taken. */
  readonly step: number;
  /** Tokens that went forward for training; the reference pass not counted. */
  readonly trainedTokens: number;
  readonly losses: readonly number[];
  /** Metrics of the last step. */
  readonly metrics: Readonly<Record<string, number>>;
  /** Codes of warnings that were given once. */
  readonly warned: readonly string[];
}

export interface FinishedStep {
  readonly step: number;
  readonly steps: number;
  readonly loss: number;
  readonly learningRate: number;
  readonly gradNorm: number;
  readonly tokens: number;
  /** Of the objective alone. */
  readonly metrics: Readonly<Record<string, number>>;
}

export interface LoopResult extends LoopProgress {
  readonly steps: number;
}

const beginning: LoopProgress = { step: 0, trainedTokens: 0, losses: [], metrics: {}, warned: [] };

/** Indices of examples and of replayed examples, of every step. */
export function walkOf(input: Pick<LoopInput, 'examples' | 'replay' | 'recipe' | 'seed'>): {
  readonly order: readonly (readonly number[])[];
  readonly replayed: readonly (readonly number[])[];
} {
  const { examples, replay, recipe, seed } = input;
  const order = stepOrder(examples.length, recipe, seed);
  const replayed = replayOrder(replay?.examples.length ?? 0, replay?.perStep ?? 0, order.length, recipe.order, seed);
  return { order, replayed };
}

/**
 * Trains: batches → what the network says → objective → backward → step. Knows no loss. Gradients are those of the
 * whole step, whatever the parts it is computed in; the same input gives the same weights.
 * @throws CUPEL_TRAIN_NOT_FINITE naming step and rows; CUPEL_TRAIN_REFERENCE_DIFFERS; the reason of the signal, after
 * the step in which it came.
 */
export async function trainLoop(
  input: LoopInput,
  sink: (event: TrainEvent) => void,
  signal?: AbortSignal,
): Promise<LoopResult> {
  const { learner, recipe } = input;
  const { order, replayed } = walkOf(input);
  const references = input.references === undefined ? await referencesHere(input, order, sink) : input.references;
  const steps = order.length;
  const { beta1, beta2, epsilon, weightDecay, maxGradNorm } = recipe;
  const losses = [...(input.from?.losses ?? [])];
  let progress: LoopProgress = { ...(input.from ?? beginning), losses };
  while (progress.step < steps) {
    signal?.throwIfAborted();
    const step = progress.step;
    const items = itemsOf(input, references, order[step] ?? [], replayed[step] ?? []);
    const notFinite = (what: string, ids: readonly string[]): never => refuse(what, step, ids, input.lastGood?.());
    const ids = items.map(({ example }) => example.id);
    const value = await valueOf(input, items, {
      maxTokens: recipe.microBatchTokens,
      drift: references === null ? 'none' : step === 0 ? 'whole' : 'sums',
      onNotFinite: (bad) => notFinite('a log-probability is not finite', bad),
    });
    if (!Number.isFinite(value.loss)) notFinite(`the loss is ${value.loss}`, ids);
    const warned = checkDrift(value, step, progress.warned, sink);
    const learningRate = learningRateAt(recipe, step, steps);
    const { gradNorm } = await learner.step({ learningRate, beta1, beta2, epsilon, weightDecay, maxGradNorm });
    if (!Number.isFinite(gradNorm)) notFinite(`the gradient norm is ${gradNorm}`, ids);
    const tokens = items.reduce((sum, { example }) => sum + tokenCount(example), 0);
    const { loss } = value;
    losses.push(loss);
    const own = Object.fromEntries(Object.entries(value.metrics).filter(([, metric]) => Number.isFinite(metric)));
    const metrics = { ...own, loss, learning_rate: learningRate, gradient_norm: gradNorm };
    progress = {
      step: step + 1,
      trainedTokens: progress.trainedTokens + tokens,
      losses,
      metrics,
      warned,
    };
    sink({ type: 'step', step: step + 1, steps, loss, metrics, tokens });
    const finished = { step: step + 1, steps, loss, learningRate, gradNorm, tokens, metrics: own };
    if ((await input.afterStep?.(progress, finished)) === true) break;
  }
  return { ...progress, steps: progress.step };
}

function referencesHere(
  { learner, objective, recipe, examples }: LoopInput,
  order: readonly (readonly number[])[],
  sink: (event: TrainEvent) => void,
): Promise<References | null> | null {
  if (objective.head === 'distribution') return null;
  const adapter = recipe.tuning.kind !== 'full';
  const shared = { maxTokens: recipe.microBatchTokens, contextLength: Infinity, folder: null, identity: null };
  return referencesOf({ learner, objective, examples, order, adapter, ...shared }, sink);
}

function itemsOf(
  { examples, replay }: LoopInput,
  references: References | null,
  indices: readonly number[],
  replayed: readonly number[],
): StepItem[] {
  return [
    ...indices.map((index, place): StepItem => ({
      example: examples[index] as Example,
      reference: references?.of(index) ?? null,
      mismatched: references?.mismatched(indices, place) ?? null,
      replayed: false,
    })),
    ...replayed.map((index): StepItem => ({
      example: replay?.examples[index] as Example,
      reference: null,
      mismatched: null,
      replayed: true,
    })),
  ];
}

function valueOf(input: LoopInput, items: readonly StepItem[], options: StepOptions): Promise<StepValue> {
  const { learner, objective, teacher } = input;
  if (objective.head !== 'distribution') return objectiveStep(learner, objective, items, options);
  if (teacher === undefined || teacher === null) {
    throw trainErrors.CUPEL_TRAIN_NO_TEACHER({ message: `${objective.name} has no teacher`, where: 'teacher' });
  }
  return distillationStep(learner, teacher.learner, objective, items, teacher.vocabularySize, options);
}

/** Share of their log-probability that chosen answers may lose before a person is told. */
const fallLimit = 0.2;
const fallCode = 'CUPEL_TRAIN_CHOSEN_FALLS';

/**
 * Before the first step policy and reference are one model: the loss is what it is there (ln 2 for the sigmoid form).
 * Later: chosen answers that become much less likely (known of preference losses) are told once.
 */
function checkDrift(
  { loss, drift }: StepValue,
  step: number,
  warned: readonly string[],
  sink: (event: TrainEvent) => void,
): readonly string[] {
  if (drift === undefined) return warned;
  const { lossAtReference, largest, policy, reference } = drift;
  if (lossAtReference !== null && Math.abs(loss - lossAtReference) > 1e-5 * Math.max(1, Math.abs(lossAtReference))) {
    throw trainErrors.CUPEL_TRAIN_REFERENCE_DIFFERS({
      message: `the first loss is ${loss}, and ${lossAtReference} where policy and reference are one; log-probabilities differ by up to ${largest}`,
      where: 'step 1',
    });
  }
  const fall = (reference - policy) / Math.max(1e-12, Math.abs(reference));
  if (warned.includes(fallCode) || fall <= fallLimit) return warned;
  warn(
    sink,
    fallCode,
    `step ${step + 1}: log-probabilities of the answers to learn fell from ${reference.toFixed(2)} to ${policy.toFixed(2)} (${(100 * fall).toFixed(0)} %). Lower the learning rate, raise beta, or add a likelihood term on chosen answers.`,
  );
  return [...warned, fallCode];
}

function refuse(what: string, step: number, ids: readonly string[], lastGood: string | null | undefined): never {
  const kept = lastGood === undefined || lastGood === null ? 'no checkpoint was kept' : `last good one: ${lastGood}`;
  throw trainErrors.CUPEL_TRAIN_NOT_FINITE({
    message: `step ${step + 1}: ${what}; ${kept}`,
    where: `rows ${ids.slice(0, 8).join(', ')}${ids.length > 8 ? ` and ${ids.length - 8} more` : ''}`,
  });
}
