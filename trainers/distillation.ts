import { defineTrainer } from '../src/kit/index.ts';
import { type DistillationParameters, distillationObjective } from './lib/distillation/objective.ts';
import { trainerErrors } from './lib/errors.ts';
import { trainerOptions } from './lib/recipe.ts';
import { withLearner } from './lib/with-learner.ts';

const version = '1.0.0';

const options = trainerOptions(1e-4, {
  teacher: {
    type: ['string', 'null'],
    minLength: 1,
    default: null,
    description: 'Checkpoint to learn from, by id or path. Its vocabulary must be that of the base.',
  },
  divergence: {
    enum: ['forward-kl', 'reverse-kl', 'jsd'],
    default: 'forward-kl',
    description: 'Cover all that the teacher finds likely, keep to what it does, or a mixture of both.',
  },
  beta: {
    type: 'number',
    exclusiveMinimum: 0,
    exclusiveMaximum: 1,
    default: 0.5,
    description: 'jsd: share of the teacher in the mixture; towards 0 it acts as forward, towards 1 as reverse.',
  },
  temperature: {
    type: 'number',
    minimum: 0.01,
    maximum: 100,
    default: 1,
    description: 'Both softmaxes are taken of logits divided by this.',
  },
  topTokens: {
    type: ['integer', 'null'],
    minimum: 1,
    maximum: 65536,
    default: null,
    description: "Compare only the teacher's likeliest tokens; null: the whole vocabulary.",
  },
  rest: {
    enum: ['tail', 'renormalise'],
    default: 'tail',
    description: 'topTokens: all other tokens count as one, or are left out.',
  },
});

export default defineTrainer({
  summary: 'Distillation: the next-token distributions of a teacher, by forward, reverse or mixed divergence',
  version,
  ...withLearner<DistillationParameters>(options, (parameters) => {
    const { topTokens, rest } = parameters;
    if (topTokens === 1 && rest === 'renormalise') {
      throw trainerErrors.CUPEL_TRAINER_PARAMETER({
        message: 'one token, renormalised, always has probability 1: nothing would be learned',
        where: 'topTokens',
      });
    }
    return distillationObjective(version, parameters);
  }),
  teacher: ({ teacher }) => (typeof teacher === 'string' ? teacher : null),
});
