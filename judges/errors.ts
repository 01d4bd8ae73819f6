import { defineErrors } from '../src/kit/index.ts';

export const judgeErrors = defineErrors({
  CUPEL_JUDGE_NO_REWARDS: {
    exit: 2,
    what: 'A judge by rewards was given a model that has no reward head.',
    mend: 'Name a checkpoint that was trained with the method `reward`, opened by an engine that computes rewards.',
  },
});
