import type {
  DistillationObjective,
  LearnerOptions,
  LearnerPlan,
  Model,
  Objective,
  Recipe,
  StepShape,
  TrainJob,
  TrainPlan,
} from '../contracts/index.ts';
import type { Example } from './examples.ts';
import { learnerOptionsOf, teacherOptions } from './learner-options.ts';
import { walkOf } from './loop.ts';
import { listBytes } from './distillation-step.ts';
import { groupByTokens, labelledCount, tokenCount } from './packing.ts';
import { takenExamples } from './references.ts';

export interface Prepared {
  readonly examples: readonly Example[];
  readonly replay: { readonly examples: readonly Example[]; readonly perStep: number } | null;
}

/**
 * Counts exactly what the loop will do; memory and time are what the engine says of its learner, and of the teacher. A
 * pass without gradients is a third of the work.
 */
export async function planOf(
  job: TrainJob,
  model: Model,
  objective: Objective | DistillationObjective,
  recipe: Recipe,
  prepared: Prepared,
): Promise<TrainPlan> {
  const { order, replayed } = walkOf({ ...prepared, recipe, seed: job.seed });
  const { tokens, ownTokens, splitTokens, labelledTokens, shape } = countOf(prepared, recipe, order, replayed);
  const options = learnerOptionsOf(recipe, objective, job.seed);
  const planned = await model.planLearner?.(options, shape);
  const { parameters, trainableParameters, memoryBytes } = planned ?? (await thumb(job, model, options, shape));
  const total = { steps: order.length, tokens, labelledTokens, parameters, trainableParameters };
  if (objective.head === 'distribution') {
    const teacher = await planTeacher(job, recipe, shape);
    const lists = listBytes(objective, model.vocabularySize, shape.labelledTokens);
    const seconds =
      planned === undefined || teacher.secondsPerToken === null
        ? null
        : tokens * (planned.secondsPerToken + teacher.secondsPerToken / 3);
    return { ...total, memoryBytes: memoryBytes + teacher.memoryBytes + lists, seconds };
  }
  const read = objective.reference ? takenExamples(order).map((index) => prepared.examples[index] as Example) : [];
  const references = read.reduce((sum, example) => sum + tokenCount(example), 0);
  const kept = read.reduce((sum, example) => sum + labelledCount(example), 0);
  // Each step reads every prompt with another answer: as many tokens again, of the policy and once of the reference.
  const mismatched = objective.mismatched === true ? 2 * ownTokens : 0;
  // What does not fit one part is read whole first.
  const coupled = objective.coupled === true ? splitTokens : 0;
  return {
    ...total,
    memoryBytes: memoryBytes + 4 * kept,
    seconds:
      planned === undefined ? null : planned.secondsPerToken * (tokens + (references + mismatched + coupled) / 3),
  };
}

function countOf(
  prepared: Prepared,
  recipe: Recipe,
  order: readonly (readonly number[])[],
  replayed: readonly (readonly number[])[],
): { tokens: number; ownTokens: number; splitTokens: number; labelledTokens: number; shape: StepShape } {
  let [tokens, ownTokens, splitTokens, labelledTokens] = [0, 0, 0, 0];
  const shape = { tokens: 0, labelledTokens: 0, longestSequence: 0 };
  for (const [step, indices] of order.entries()) {
    const own = indices.map((index) => ({ example: prepared.examples[index] as Example }));
    const items = [
      ...own,
      ...(replayed[step] ?? []).map((index) => ({ example: prepared.replay?.examples[index] as Example })),
    ];
    ownTokens += own.reduce((sum, { example }) => sum + tokenCount(example), 0);
    const groups = groupByTokens(items, recipe.microBatchTokens);
    if (groups.length > 1) splitTokens += items.reduce((sum, { example }) => sum + tokenCount(example), 0);
    for (const group of groups) {
      const [all, labelled] = [tokenCount, labelledCount].map((count) =>
        group.reduce((sum, { example }) => sum + count(example), 0),
      ) as [number, number];
      tokens += all;
      labelledTokens += labelled;
      shape.tokens = Math.max(shape.tokens, all);
      shape.labelledTokens = Math.max(shape.labelledTokens, labelled);
      for (const { example } of group) {
        for (const sequence of example.sequences) {
          shape.longestSequence = Math.max(shape.longestSequence, sequence.tokens.length);
        }
      }
    }
  }
  return { tokens, ownTokens, splitTokens, labelledTokens, shape };
}

/** Of an engine that does not plan: the weights alone, which are then opened to be counted. */
async function planTeacher(
  job: TrainJob,
  recipe: Recipe,
  shape: StepShape,
): Promise<{ readonly memoryBytes: number; readonly secondsPerToken: number | null }> {
  const options = teacherOptions(recipe);
  const planned = (await job.planTeacher?.(options, shape)) ?? null;
  if (planned !== null) return planned;
  const teacher = await job.openTeacher?.(options);
  if (teacher === undefined) return { memoryBytes: 0, secondsPerToken: null };
  await teacher.close();
  return { memoryBytes: 4 * teacher.parameterCount, secondsPerToken: null };
}

/**
 * Of engines that do not plan. Weights, gradients and two moments in f32; logits of one forward pass; activations by the
 * rule of thumb 64 √parameters bytes a token (measured shapes of small Llamas lie within a factor of 2 of it).
 */
async function thumb(
  job: TrainJob,
  model: Model,
  options: LearnerOptions,
  shape: StepShape,
): Promise<Pick<LearnerPlan, 'parameters' | 'trainableParameters' | 'memoryBytes'>> {
  const learner = await job.openLearner?.(options);
  const parameters = learner?.parameterCount ?? 0;
  const trainableParameters = learner?.trainableCount ?? 0;
  await learner?.close();
  const perToken = 4 * model.vocabularySize + 64 * Math.sqrt(parameters);
  return {
    parameters,
    trainableParameters,
    memoryBytes: Math.ceil(4 * parameters + 12 * trainableParameters + shape.tokens * perToken),
  };
}
