import type { Learner, Objective, ObjectiveExample, ObjectiveTotals } from '../../contracts/index.ts';
import { Random } from '../../kit/index.ts';
import type { Example } from '../examples.ts';
import { labelWeight, labelWeights, packSequences } from '../packing.ts';
import { type Finding, rowList } from './finding.ts';

/** Largest difference of a log-probability that another order of sums explains. */
const packingTolerance = 1e-5;
const accumulationTolerance = 1e-9;

/** Most examples that a probe looks at: the network is asked about fewer. */
const probed = 4;
const packed = 2;

/**
 * Log-probabilities of the shortest examples, packed and alone: a learner whose attention crosses the ends of sequences
 * shows here. Costs one small forward pass twice, and keeps nothing.
 */
export async function probePacking(learner: Learner, examples: readonly Example[]): Promise<Finding[]> {
  const short = [...examples].sort((one, other) => sizeOf(one) - sizeOf(other)).slice(0, packed);
  const sequences = short.flatMap((example) => example.sequences);
  const together = await learner.logProbabilities(packSequences(sequences), { keep: false });
  let [start, largest] = [0, 0];
  for (const sequence of sequences) {
    const alone = await learner.logProbabilities(packSequences([sequence]), { keep: false });
    for (const value of alone) largest = Math.max(largest, Math.abs(value - (together[start++] ?? Number.NaN)));
  }
  if (largest <= packingTolerance) return [];
  return [
    {
      code: 'CUPEL_TRAIN_PACKING_LEAK',
      severity: 'error',
      message: `log-probabilities differ by ${largest.toExponential(1)} when ${sequences.length} sequences are packed`,
      where: rowList(short.map(({ id }) => id)),
    },
  ];
}

/**
 * One step of these examples over made-up log-probabilities, whole and in parts of one example: losses and gradients of
 * the parts have to add up to the whole. Arithmetic alone; the made-up numbers are always the same.
 */
export function probeAccumulation(objective: Objective, examples: readonly Example[]): Finding[] {
  if (objective.coupled === true || objective.head === 'reward') return [];
  const views = viewsOf(objective, examples.slice(0, probed));
  const totals = totalsOf(objective, examples, views);
  const whole = objective.evaluate({ examples: views, replay: [], totals });
  let loss = 0;
  let largest = 0;
  for (const [index, view] of views.entries()) {
    const part = objective.evaluate({ examples: [view], replay: [], totals });
    loss += part.loss;
    const [one, other] = [part.gradients[0], whole.gradients[index]].map((lists) => (lists ?? []).flat());
    for (const [place, value] of (one ?? []).entries())
      largest = Math.max(largest, Math.abs(value - (other?.[place] ?? Number.NaN)));
  }
  const difference = Math.max(largest, Math.abs(loss - whole.loss));
  if (difference <= accumulationTolerance * Math.max(1, Math.abs(whole.loss))) return [];
  return [
    {
      code: 'CUPEL_TRAIN_ACCUMULATION',
      severity: 'error',
      message: `${objective.name} gives ${whole.loss} for the whole step and ${loss} in parts`,
      where: `objective ${objective.name}`,
    },
  ];
}

function viewsOf(objective: Objective, examples: readonly Example[]): ObjectiveExample[] {
  const random = new Random(1, 'accumulation probe');
  return examples.map(({ sequences, desirable }) => {
    const weights = sequences.map(labelWeights);
    const numbers = (): Float64Array[] => weights.map((list) => list.map(() => -3 * random.next() - 0.01));
    return {
      policy: numbers(),
      reference: objective.reference ? numbers() : null,
      weights,
      ...(objective.promptLabels === true
        ? {
            promptTokens: sequences.map(({ promptLength }, index) => (index === 0 ? Math.max(0, promptLength - 1) : 0)),
          }
        : {}),
      ...(desirable === undefined ? {} : { desirable }),
    };
  });
}

function totalsOf(
  objective: Objective,
  examples: readonly Example[],
  views: readonly ObjectiveExample[],
): ObjectiveTotals {
  const sums: number[] = [];
  for (const { sequences } of examples.slice(0, probed))
    for (const [index, sequence] of sequences.entries()) sums[index] = (sums[index] ?? 0) + labelWeight(sequence);
  return {
    examples: views.length,
    labelWeights: sums,
    replayLabelWeight: 0,
    ...(objective.sequences === 'labelled'
      ? { desirable: views.filter(({ desirable }) => desirable === true).length }
      : {}),
    ...(objective.mismatched === true
      ? {
          mismatched: views.map((_, index) => {
            const next = views[(index + 1) % views.length] as ObjectiveExample;
            return { policy: next.policy[0] ?? [], reference: next.reference?.[0] ?? [] };
          }),
        }
      : {}),
  };
}

function sizeOf(example: Example): number {
  return example.sequences.reduce((sum, { tokens }) => sum + tokens.length, 0);
}
