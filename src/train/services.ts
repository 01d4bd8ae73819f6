import { mkdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type {
  Learner,
  Model,
  Objective,
  Recipe,
  TrainEvent,
  TrainingRecord,
  TrainJob,
  TrainPlan,
  TrainServices,
} from '../contracts/index.ts';
import { digestOf, writeFileAtomic } from '../kit/index.ts';
import { trainErrors } from './errors.ts';
import { type Example, prepareExamples } from './examples.ts';
import { trainLoop } from './loop.ts';
import { tokenCount } from './packing.ts';

/** The training room, for trainers that need a learner. Stateless. */
export const trainServices: TrainServices = {
  async plan(job, objective, recipe) {
    const { model, learner } = opened(job);
    return planOf(
      prepare(job, model, objective, recipe, () => {}),
      job,
      model,
      learner,
      recipe,
    );
  },

  async run(job, objective, recipe, sink, signal) {
    const { model, learner } = opened(job);
    await refuseExisting(job.output);
    const { examples, replay } = prepare(job, model, objective, recipe, sink);
    const result = await trainLoop({ learner, objective, recipe, examples, replay, seed: job.seed }, sink, signal);
    const partial = `${job.output}.partial`;
    await rm(partial, { recursive: true, force: true });
    await mkdir(dirname(job.output), { recursive: true });
    await learner.save(partial, { dtype: recipe.dtype });
    const { steps, trainedTokens, metrics } = result;
    const record: TrainingRecord = {
      version: 1,
      trainer: `${objective.name}@${objective.version}`,
      parent: model.digest,
      recipeDigest: digestOf({ recipe, parameters: job.parameters, replayPerStep: job.replay?.perStep ?? 0 }),
      dataDigest: digestOf({ data: job.data, replay: job.replay?.rows ?? [] }),
      templateDigest: templateDigest(model),
      seed: job.seed,
      steps,
      trainedTokens,
      metrics,
    };
    await writeFileAtomic(join(partial, 'cupel_run.json'), `${JSON.stringify(record, null, 2)}\n`);
    await rename(partial, job.output);
    return { steps, trainedTokens, metrics, losses: result.losses };
  },
};

/** What the chat template writes for a fixed conversation, as a digest: equal templates, equal digests. */
export function templateDigest(model: Model): string {
  const messages = (['system', 'user', 'assistant', 'user'] as const).map((role) => ({
    role,
    content: `${role} says`,
  }));
  return digestOf([true, false].map((addGenerationPrompt) => model.render(messages, { addGenerationPrompt })));
}

interface Prepared {
  readonly examples: readonly Example[];
  readonly replay: { readonly examples: readonly Example[]; readonly perStep: number } | null;
}

function prepare(
  job: TrainJob,
  model: Model,
  objective: Objective,
  recipe: Recipe,
  sink: (event: TrainEvent) => void,
): Prepared {
  const examples = prepareExamples(model, job.data, objective.sequences, recipe.overlong, sink);
  if (job.replay === null || job.replay.perStep === 0) return { examples, replay: null };
  return {
    examples,
    replay: {
      examples: prepareExamples(model, job.replay.rows, 'answer', recipe.overlong, sink),
      perStep: job.replay.perStep,
    },
  };
}

/**
 * Memory: weights, gradients and two moments in f32; logits of one forward pass; activations by the rule of thumb
 * 64 √parameters bytes a token (measured shapes of small Llamas lie within a factor of 2 of it).
 */
function planOf(prepared: Prepared, job: TrainJob, model: Model, learner: Learner, recipe: Recipe): TrainPlan {
  const { examples, replay } = prepared;
  const steps = recipe.epochs * Math.ceil(examples.length / recipe.batchSize);
  const perEpoch = examples.reduce((sum, example) => sum + tokenCount(example), 0);
  const replayed =
    replay === null
      ? 0
      : replay.examples.reduce((sum, example) => sum + tokenCount(example), 0) / replay.examples.length;
  const perToken = 4 * model.vocabularySize + 64 * Math.sqrt(learner.parameterCount);
  const longestStep = Math.ceil(
    (perEpoch / examples.length) * recipe.batchSize + replayed * (job.replay?.perStep ?? 0),
  );
  return {
    steps,
    tokens: Math.round(recipe.epochs * perEpoch + steps * (replay?.perStep ?? 0) * replayed),
    memoryBytes: Math.ceil(16 * learner.parameterCount + Math.min(longestStep, recipe.microBatchTokens) * perToken),
  };
}

function opened(job: TrainJob): { model: Model; learner: Learner } {
  if (job.model !== null && job.learner !== null) return { model: job.model, learner: job.learner };
  throw trainErrors.CUPEL_TRAIN_NO_LEARNER({
    message: `job ${job.id} has ${job.model === null ? 'no open base model' : 'no learner'}`,
    where: job.base?.path ?? 'base',
  });
}

async function refuseExisting(folder: string): Promise<void> {
  const found = await stat(folder).catch(() => null);
  if (found === null) return;
  throw trainErrors.CUPEL_TRAIN_OUTPUT_EXISTS({ message: `${folder} exists`, where: folder });
}
