import type { Learner, Objective, ObjectiveExample, ObjectivePart, ObjectiveTotals } from '../contracts/index.ts';
import type { Example } from './examples.ts';
import { groupByTokens, labelWeight, labelWeights, packSequences, splitBySequence } from './packing.ts';
import type { TokenSequence } from './sequence.ts';

/** One example of a step, with what the model made of it before the first step. */
export interface StepItem {
  readonly example: Example;
  readonly reference: readonly Float32Array[] | null;
  /** Its prompt with the answer of another example (KTO). */
  readonly mismatched: { readonly sequence: TokenSequence; readonly reference: Float32Array } | null;
  readonly replayed: boolean;
}

/** What a step is, before its weights are changed. */
export interface StepValue {
  readonly loss: number;
  readonly metrics: Readonly<Record<string, number>>;
  /** With reference log-probabilities: how the policy has moved from them. */
  readonly drift?: Drift;
}

export interface Drift {
  /** The loss if the policy were still the reference; null where it was not wanted. */
  readonly lossAtReference: number | null;
  /** Largest absolute difference of a log-probability. */
  readonly largest: number;
  /** Sums of the log-probabilities of the answers to learn: chosen ones, desirable ones. */
  readonly policy: number;
  readonly reference: number;
}

export interface StepOptions {
  readonly maxTokens: number;
  /** Whether `drift` is wanted: not, its sums alone, or with the loss at the reference. */
  readonly drift: 'none' | 'sums' | 'whole';
  /** Told of examples whose numbers are not finite, as soon as they are seen. */
  readonly onNotFinite: (ids: readonly string[]) => never;
}

interface View extends ObjectiveExample {
  readonly policy: readonly Float32Array[];
}

/**
 * Adds the gradient of an objective over one step to the learner. Parts add up to the step; a coupled objective that
 * does not fit one part is read whole first (forward alone) and then goes back part by part.
 */
export async function objectiveStep(
  learner: Learner,
  objective: Objective,
  items: readonly StepItem[],
  options: StepOptions,
): Promise<StepValue> {
  const groups = groupByTokens(items, options.maxTokens);
  const totals = await totalsOf(learner, objective, items, options);
  const sum = new Sum(objective, totals, options.drift);
  if (objective.coupled === true && groups.length > 1) {
    const views: View[] = [];
    for (const group of groups) views.push(...(await forward(learner, objective, group, false, options)));
    const gradients = sum.add(items, views);
    let start = 0;
    for (const group of groups) {
      await forward(learner, objective, group, true, options);
      await learner.backward(flat(gradients.slice(start, (start += group.length))));
    }
    return sum.value();
  }
  for (const group of groups) {
    const gradients = sum.add(group, await forward(learner, objective, group, true, options));
    await learner.backward(flat(gradients));
  }
  return sum.value();
}

/** What the network gives each sequence: its labelled log-probabilities, or its reward. */
export async function forwardSequences(
  learner: Learner,
  head: Objective['head'],
  sequences: readonly TokenSequence[],
  options: { readonly keep: boolean; readonly adapter?: boolean },
): Promise<Float32Array[]> {
  const batch = packSequences(sequences);
  if (head !== 'reward') return splitBySequence(await learner.logProbabilities(batch, options), sequences);
  const rewards = await learner.rewards(batch, options);
  return sequences.map((_, index) => rewards.subarray(index, index + 1));
}

async function forward(
  learner: Learner,
  objective: Objective,
  group: readonly StepItem[],
  keep: boolean,
  options: StepOptions,
): Promise<View[]> {
  const sequences = group.flatMap(({ example }) => example.sequences);
  const lists = await forwardSequences(learner, objective.head, sequences, { keep });
  let start = 0;
  const views = group.map(({ example, reference }): View => {
    const policy = lists.slice(start, (start += example.sequences.length));
    return {
      policy,
      reference,
      weights: example.sequences.map(labelWeights),
      ...(objective.promptLabels === true && { promptTokens: example.sequences.map(promptLabels) }),
      ...(example.desirable !== undefined && { desirable: example.desirable }),
    };
  });
  const bad = group.filter((_, index) => views[index]?.policy.some((list) => !list.every(Number.isFinite)));
  if (bad.length > 0) options.onNotFinite(bad.map(({ example }) => example.id));
  return views;
}

async function totalsOf(
  learner: Learner,
  objective: Objective,
  items: readonly StepItem[],
  options: StepOptions,
): Promise<ObjectiveTotals> {
  const labels: number[] = [];
  let replayLabelWeight = 0;
  for (const { example, replayed } of items) {
    for (const [index, sequence] of example.sequences.entries()) {
      const weight = labelWeight(sequence);
      if (replayed) replayLabelWeight += weight;
      else labels[index] = (labels[index] ?? 0) + weight;
    }
  }
  const own = items.filter(({ replayed }) => !replayed);
  return {
    examples: own.length,
    labelWeights: labels,
    replayLabelWeight,
    ...(objective.sequences === 'labelled' && { desirable: own.filter(({ example }) => example.desirable).length }),
    ...(objective.mismatched === true && { mismatched: await mismatchedOf(learner, own, options.maxTokens) }),
  };
}

async function mismatchedOf(
  learner: Learner,
  items: readonly StepItem[],
  maxTokens: number,
): Promise<NonNullable<ObjectiveTotals['mismatched']>> {
  const wanted = items.flatMap(({ mismatched }) =>
    mismatched === null ? [] : [{ ...mismatched, example: { sequences: [mismatched.sequence] } }],
  );
  const found: { policy: Float32Array; reference: Float32Array }[] = [];
  for (const group of groupByTokens(wanted, maxTokens)) {
    const sequences = group.map(({ sequence }) => sequence);
    const lists = await forwardSequences(learner, 'tokens', sequences, { keep: false });
    for (const [index, { reference }] of group.entries()) {
      found.push({ policy: lists[index] as Float32Array, reference });
    }
  }
  return found;
}

/** Labelled tokens at the start of a sequence that belong to its prompt. */
function promptLabels({ weights, promptLength }: TokenSequence): number {
  return weights.subarray(0, promptLength).reduce((count, weight) => count + (weight > 0 ? 1 : 0), 0);
}

/** Adds up the values of the parts of a step. */
class Sum {
  readonly #objective: Objective;
  readonly #totals: ObjectiveTotals;
  readonly #metrics: Record<string, number> = {};
  #loss = 0;
  #drift: Drift | undefined;

  constructor(objective: Objective, totals: ObjectiveTotals, drift: StepOptions['drift']) {
    this.#objective = objective;
    this.#totals = totals;
    const lossAtReference = drift === 'whole' ? 0 : null;
    if (drift !== 'none') this.#drift = { lossAtReference, largest: 0, policy: 0, reference: 0 };
  }

  /** @returns the gradients of the part, in the order of its items. */
  add(items: readonly StepItem[], views: readonly View[]): (readonly (readonly number[])[])[] {
    const part: ObjectivePart = {
      examples: views.filter((_, index) => items[index]?.replayed === false),
      replay: views.filter((_, index) => items[index]?.replayed === true),
      totals: this.#totals,
    };
    const value = this.#objective.evaluate(part);
    this.#loss += value.loss;
    for (const [name, metric] of Object.entries(value.metrics)) {
      this.#metrics[name] = (this.#metrics[name] ?? 0) + metric;
    }
    if (this.#drift !== undefined) this.#drift = this.#withDrift(this.#drift, part, views);
    let [own, replayed] = [0, 0];
    return items.map((item) => (item.replayed ? value.replayGradients[replayed++] : value.gradients[own++]) ?? []);
  }

  value(): StepValue {
    const value = { loss: this.#loss, metrics: this.#metrics };
    return this.#drift === undefined ? value : { ...value, drift: this.#drift };
  }

  #withDrift(before: Drift, part: ObjectivePart, views: readonly View[]): Drift {
    let { largest, policy, reference } = before;
    for (const view of views) {
      for (const [index, list] of view.policy.entries()) {
        const was = view.reference?.[index];
        if (was === undefined) continue;
        for (let token = 0; token < list.length; token++) {
          const [now, then] = [list[token] ?? 0, was[token] ?? 0];
          largest = Math.max(largest, Math.abs(now - then));
          if (index > 0 || view.desirable === false) continue;
          policy += now;
          reference += then;
        }
      }
    }
    const lossAtReference =
      before.lossAtReference === null ? null : before.lossAtReference + this.#lossAtReference(part);
    return { lossAtReference, largest, policy, reference };
  }

  #lossAtReference(part: ObjectivePart): number {
    const mismatched = this.#totals.mismatched?.map(({ reference }) => ({ policy: reference, reference }));
    const still = this.#objective.evaluate({
      ...part,
      examples: part.examples.map((example) => ({ ...example, policy: example.reference ?? example.policy })),
      totals: { ...this.#totals, ...(mismatched !== undefined && { mismatched }) },
    });
    return still.loss;
  }
}

function flat(gradients: readonly (readonly (readonly number[])[])[]): Float32Array {
  return Float32Array.from(gradients.flat(2));
}
