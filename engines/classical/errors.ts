import { defineErrors } from '../../src/kit/index.ts';

export const classicalErrors = defineErrors({
  CUPEL_CLASSICAL_INVALID: {
    exit: 2,
    what: 'A file classical.json is damaged or of another version.',
    mend: 'Make the baseline again with its trainer.',
  },
  CUPEL_CLASSICAL_CANNOT: {
    exit: 2,
    what: 'A baseline that only answers was asked for something else, such as log-likelihoods.',
    mend: 'Leave this suite out for the checkpoint, or use an engine that can.',
  },
  CUPEL_CLASSICAL_CLOSED: {
    exit: 70,
    what: 'A model was used after it was closed.',
    mend: 'Report this with the command you ran.',
  },
});
