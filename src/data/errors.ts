import { defineErrors } from '../kit/index.ts';

export const dataErrors = defineErrors({
  CUPEL_DATA_ROW_KIND: {
    exit: 2,
    what: 'A training row is none of the known kinds.',
    mend: 'Give each line exactly one of: messages; prompt, chosen and rejected; text.',
  },
  CUPEL_DATA_EMPTY_TARGET: {
    exit: 2,
    what: 'A training row has no answer to learn, or an empty one.',
    mend: 'End the row with a non-empty assistant message (or give non-empty chosen, rejected or text).',
  },
  CUPEL_DATA_DUPLICATE_ID: {
    exit: 2,
    what: 'Two training rows have the same id.',
    mend: 'Give every row its own id, or leave the ids out.',
  },
  CUPEL_DATA_NO_ROWS: {
    exit: 2,
    what: 'A dataset has no rows.',
    mend: 'Name a file with at least one row.',
  },
  CUPEL_DATA_TEST_SPLIT: {
    exit: 4,
    what: 'Training data was about to be made from a split that is kept for testing.',
    mend: 'Mine from the train or validation split.',
  },
  CUPEL_DATA_MINE_MISMATCH: {
    exit: 2,
    what: 'Rows of a run and cases of a suite do not belong together.',
    mend: 'Mine with the suite version that the run was made with.',
  },
  CUPEL_DATA_MINE_NOTHING: {
    exit: 2,
    what: 'No preference pair could be mined: there are no usable failures.',
    mend: 'Look at the counts in the message; widen the length ratio, or mine from more cases.',
  },
  CUPEL_DATA_ANSWER_NOT_OBJECT: {
    exit: 2,
    what: 'Labels were to be changed in an answer that is not a JSON object with these fields.',
    mend: 'Name rows whose answers are JSON objects with the fields that are set.',
  },
});
