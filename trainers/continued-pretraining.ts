import type { Objective, TrainJob, VocabularyOptions } from '../src/contracts/index.ts';
import { defineTrainer } from '../src/kit/index.ts';
import { negativeLogLikelihood } from './lib/nll.ts';
import {
  readParameters,
  type RecipeParameters,
  recipeOf,
  recipeProperties,
  replayProperties,
  trainerOptions,
} from './lib/recipe.ts';
import { withReplayShare } from './lib/replay-share.ts';
import { withLearner } from './lib/with-learner.ts';

const version = '1.0.0';

interface OwnParameters {
  readonly replayWeight: number;
  readonly replayShare: number | null;
  readonly vocabulary: VocabularyParameters | null;
}

interface VocabularyParameters {
  readonly tokens: number;
  readonly minimumCount?: number;
  readonly multipleOf?: number;
}

/**
 * Continued pretraining: Σ −log p / tokens over every token of documents but the first, with replayed rows of what the
 * base knows: (Σ new + w Σ replay) / (tokens new + w × tokens of replay) over a whole step (replay: Ibrahim et al. 2024,
 * arXiv:2403.08763). TRL 1.16: `SFTTrainer` on rows of `text`.
 */
export function continuedPretrainingObjective({ replayWeight }: Pick<OwnParameters, 'replayWeight'>): Objective {
  return {
    name: 'continued-pretraining',
    version,
    sequences: 'answer',
    reference: false,
    evaluate: (part) => negativeLogLikelihood(part, replayWeight),
  };
}

const vocabulary = {
  type: ['object', 'null'],
  additionalProperties: false,
  required: ['tokens'],
  properties: {
    tokens: { type: 'integer', minimum: 1, maximum: 100000, description: 'Most new tokens.' },
    minimumCount: { type: 'integer', minimum: 2, maximum: 1000000, default: 5 },
    multipleOf: { type: 'integer', minimum: 1, maximum: 4096, default: 64 },
  },
  default: null,
  description: 'Tokens that the base gets before training, chosen from the data by what they save.',
} as const;

const options = trainerOptions(1e-4, {
  overlong: { ...recipeProperties.overlong, default: 'window' },
  ...replayProperties,
  replayShare: {
    type: ['number', 'null'],
    exclusiveMinimum: 0,
    exclusiveMaximum: 1,
    default: null,
    description: 'Share of the tokens of a step that are replayed, in place of a number of rows; needs `replay`.',
  },
  vocabulary,
});

const trained = withLearner<OwnParameters>(options, continuedPretrainingObjective);

async function shared(job: TrainJob): Promise<TrainJob> {
  const where = `parameters of job ${job.id}`;
  const parameters = readParameters<OwnParameters & RecipeParameters>(options, job.parameters, where);
  if (parameters.replayShare === null) return job;
  return withReplayShare(job, continuedPretrainingObjective(parameters), recipeOf(parameters), parameters.replayShare);
}

export default defineTrainer({
  summary: 'Continued pretraining: every token of documents, with replay and new tokens',
  version,
  ...trained,
  plan: async (job) => trained.plan(await shared(job)),
  train: async (job, sink, signal) => trained.train(await shared(job), sink, signal),
  vocabulary(parameters): VocabularyOptions | null {
    const schema = { type: 'object', properties: { vocabulary } };
    const { vocabulary: asked } = readParameters<Pick<OwnParameters, 'vocabulary'>>(schema, parameters, 'parameters');
    if (asked === null) return null;
    return { tokens: asked.tokens, minimumCount: asked.minimumCount ?? 5, multipleOf: asked.multipleOf ?? 64 };
  },
});
