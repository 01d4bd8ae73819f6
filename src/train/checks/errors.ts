import { defineErrors } from '../../kit/index.ts';

/** What `checkTraining` finds. A warning has a code of the same list, and stops nothing. */
export const checkErrors = defineErrors({
  CUPEL_TRAIN_BEGIN_OF_SEQUENCE: {
    exit: 2,
    what: 'The token that opens a sequence stands more or less often in a row than the template writes it.',
    mend: 'Remove that token from the text of the row, or the second one from the chat template.',
  },
  CUPEL_TRAIN_SPECIAL_TOKEN_IN_PROMPT: {
    exit: 2,
    what: 'The text of a prompt holds special tokens: the model would read turns that the row does not have.',
    mend: 'Remove special tokens such as the end of turn from the messages of the row.',
  },
  CUPEL_TRAIN_PAD_IS_END: {
    exit: 2,
    what: 'The token that fills batches is the end-of-turn token. Labels go by position here, so nothing is lost; other trainers mask it and never learn to stop.',
    mend: 'Give the tokenizer a padding token of its own before the checkpoint is trained elsewhere.',
  },
  CUPEL_TRAIN_TEMPLATE_CHANGED: {
    exit: 2,
    what: 'The base was trained with a chat template that writes something else than the one it has now.',
    mend: 'Put the template back that the base was trained with, or expect to train its format anew.',
  },
  CUPEL_TRAIN_WRONG_LABELS: {
    exit: 2,
    what: 'A prepared row trains on something else than the assistant’s answers, each up to its end of turn.',
    mend: 'Report it with the row: what is prepared here is always labelled so, unless a trainer changed it.',
  },
  CUPEL_TRAIN_LABELS_LOST: {
    exit: 2,
    what: 'More than one row in a hundred would be cut so that it loses labelled tokens.',
    mend: 'Raise maxTokens, shorten the rows, or leave them out with `overlong: drop`.',
  },
  CUPEL_TRAIN_ROWS_CUT: {
    exit: 2,
    what: 'Rows are longer than the limit and were cut or left out. A warning.',
    mend: 'Look at the lengths in the message; raise maxTokens where the context allows it.',
  },
  CUPEL_TRAIN_ACCUMULATION: {
    exit: 2,
    what: 'An objective gives another loss or gradient when a step is computed in parts: accumulation would not equal the large batch.',
    mend: 'Divide every part by the totals of the whole step, or declare the objective as coupled.',
  },
  CUPEL_TRAIN_PACKING_LEAK: {
    exit: 2,
    what: 'A learner gives a sequence other log-probabilities when others are packed beside it: rows would see each other.',
    mend: 'Use an engine whose attention stops at the ends of sequences.',
  },
  CUPEL_TRAIN_KTO_BATCH: {
    exit: 2,
    what: 'A step would have a single example, and the objective reads each prompt with the answer of the next.',
    mend: 'Choose a batchSize of at least 2.',
  },
  CUPEL_TRAIN_LABEL_BALANCE: {
    exit: 2,
    what: 'Desirable and undesirable examples are out of balance: their weighted ratio should lie between 1 and 4/3.',
    mend: 'Set the weights as the message says, or change the share of the two kinds.',
  },
  CUPEL_TRAIN_TIED_HEAD: {
    exit: 2,
    what: 'Adapters are asked for on the embedding or the head, which are one tensor in this model: merged, one of both would be wrong.',
    mend: 'Take embed_tokens and lm_head out of the targets, or train every weight.',
  },
  CUPEL_TRAIN_QLORA_MERGE: {
    exit: 2,
    what: 'Adapters that were trained over a quantized base are merged.',
    mend: 'Quantize the merged model again only before it is evaluated, and gate the very file that ships.',
  },
  CUPEL_TRAIN_NO_REPLAY: {
    exit: 2,
    what: 'No rows of what the base knows are replayed, and no suite is known that looks for what was forgotten.',
    mend: 'Add `replay`, or a regression suite to the gate’s policy.',
  },
  CUPEL_TRAIN_LEARNING_RATE: {
    exit: 2,
    what: 'The learning rate lies far outside of what is usual for this way of tuning.',
    mend: 'Compare with the usual range in the message.',
  },
});
