import { defineErrors } from '../kit/index.ts';

export const dataErrors = defineErrors({
  CUPEL_DATA_ROW_KIND: {
    exit: 2,
    what: 'A training row is none of the known kinds.',
    mend: 'Give each row the fields of exactly one format of docs/guides/training-data.md.',
  },
  CUPEL_DATA_COLUMNS_IGNORED: {
    exit: 2,
    what: 'Columns of a dataset belong to no format, or say again what others say, and are not read. A warning.',
    mend: 'Nothing has to be done for metadata. Rename what should be trained to a field of docs/guides/training-data.md.',
  },
  CUPEL_DATA_NOT_TRAINABLE: {
    exit: 2,
    what: 'A training row holds something that a format allows, and that nothing here can learn from.',
    mend: 'Remove what the message names, or the row: it is never left out silently.',
  },
  CUPEL_DATA_TOOLS: {
    exit: 2,
    what: 'Tools, a call of a tool or the answer of one can not be read.',
    mend: 'Give tools as a list of functions, arguments as a JSON object, and every answer the id of a call before it.',
  },
  CUPEL_DATA_TURN_ORDER: {
    exit: 2,
    what: 'The turns of a conversation do not alternate as its format says.',
    mend: 'Let human or observation and gpt or function_call take turns, after at most one system message.',
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
  CUPEL_DATA_DUPLICATE_ROWS: {
    exit: 2,
    what: 'Rows have the same input and the same answer. A warning.',
    mend: 'Remove all but one, unless the repetition is meant as a weight.',
  },
  CUPEL_DATA_NEAR_DUPLICATES: {
    exit: 2,
    what: 'Inputs of rows are nearly the same: they share at least four fifths of their word 3-grams. A warning.',
    mend: 'Remove some of them, and never split such rows between training and evaluation.',
  },
  CUPEL_DATA_LABEL_CONFLICT: {
    exit: 2,
    what: 'Rows with the same input have different answers, or judge the same answer differently. A warning.',
    mend: 'Decide for one of them.',
  },
  CUPEL_DATA_REVERSED_PREFERENCE: {
    exit: 2,
    what: 'What one row chooses another rejects, for the same prompt. A warning.',
    mend: 'Decide for one of them.',
  },
  CUPEL_DATA_NOT_JSON: {
    exit: 2,
    what: 'Answers are no JSON objects where at least nine of ten are. A warning.',
    mend: 'Mend or remove the rows: the model would learn to break the format.',
  },
  CUPEL_DATA_HELD_OUT: {
    exit: 4,
    what: 'Training rows ask what a case of a suite asks. An error for the test split, a warning for validation or where the words are nearly the same.',
    mend: 'Remove the rows: a model that was trained on a test says nothing by passing it.',
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
