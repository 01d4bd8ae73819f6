import { defineErrors } from '../kit/index.ts';

export const trainErrors = defineErrors({
  CUPEL_TRAIN_NOTHING_TO_LEARN: {
    exit: 2,
    what: 'A training row has no labelled token, or there are no rows at all.',
    mend: 'Give every row an assistant answer with a weight above 0, or remove the row.',
  },
  CUPEL_TRAIN_NOT_A_PREFIX: {
    exit: 2,
    what: 'The tokens of a prompt are not a prefix of the tokens of the whole conversation: training and generation would see different text.',
    mend: 'Mend the chat template: what it writes before an answer must not depend on the answer.',
  },
  CUPEL_TRAIN_NO_END_OF_TURN: {
    exit: 2,
    what: 'An answer is not followed by the end-of-turn token: the model would never learn to stop.',
    mend: 'Mend the chat template, or the end-of-sequence token of the checkpoint.',
  },
  CUPEL_TRAIN_SPECIAL_TOKEN_IN_TEXT: {
    exit: 2,
    what: 'What would be trained is not the text of the answer: it holds a special token, or the template changes it.',
    mend: 'Remove special tokens such as the end of turn from the text of the row.',
  },
  CUPEL_TRAIN_ROW_TOO_LONG: {
    exit: 2,
    what: 'A training row is longer than the context of the model.',
    mend: 'Shorten or remove the row, or set `overlong: drop`.',
  },
  CUPEL_TRAIN_ROW_KIND: {
    exit: 2,
    what: 'A trainer was given rows of a kind that it can not learn from.',
    mend: 'Preference trainers need rows with prompt, chosen and rejected.',
  },
  CUPEL_TRAIN_PAIR_EQUAL: {
    exit: 2,
    what: 'The chosen and the rejected answer of a preference row have the same tokens.',
    mend: 'Remove the row: it says nothing about preference.',
  },
  CUPEL_TRAIN_TOKEN_OUT_OF_RANGE: {
    exit: 2,
    what: 'The tokenizer gives a token id that the model does not have.',
    mend: 'Use the tokenizer that belongs to the checkpoint.',
  },
  CUPEL_TRAIN_NOT_FINITE: {
    exit: 2,
    what: 'A loss or gradient became NaN or infinite; training was stopped and nothing was saved.',
    mend: 'Lower the learning rate, keep gradient clipping on, and look at the rows that are named.',
  },
  CUPEL_TRAIN_NO_LEARNER: {
    exit: 2,
    what: 'A trainer that needs an open base model and a learner was started without them.',
    mend: 'Name a base checkpoint whose engine can learn.',
  },
  CUPEL_TRAIN_OUTPUT_EXISTS: {
    exit: 2,
    what: 'The folder for the new checkpoint exists already.',
    mend: 'Choose another output folder, or remove the old one.',
  },
});
