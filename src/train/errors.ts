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
  CUPEL_TRAIN_TURN_NOT_ASSISTANT: {
    exit: 2,
    what: 'A message that is not the assistant’s has a weight above 0: the model would learn to speak for others.',
    mend: 'Give weights to assistant messages alone.',
  },
  CUPEL_TRAIN_TEMPLATE_DROPS: {
    exit: 2,
    what: 'The chat template does not write something that a row holds: tools, or what the assistant calls.',
    mend: 'Use a checkpoint whose template writes tools, or remove them from the row.',
  },
  CUPEL_TRAIN_ROW_TOO_LONG: {
    exit: 2,
    what: 'A training row is longer than the context of the model.',
    mend: 'Shorten or remove the row, or say with `overlong` what is to be done: drop, left or window.',
  },
  CUPEL_TRAIN_ROW_KIND: {
    exit: 2,
    what: 'A trainer was given rows of a kind that it can not learn from.',
    mend: 'Preference trainers need rows with prompt, chosen and rejected; KTO rows with prompt, completion and label.',
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
    what: 'A loss or gradient became NaN or infinite; training was stopped, and the last good checkpoint was kept.',
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
  CUPEL_TRAIN_REFERENCE_DIFFERS: {
    exit: 70,
    what: 'Before the first step, policy and reference do not give the same loss, though they are one model.',
    mend: 'Report it with the checkpoint and the settings of the learner: log-probabilities depend on the batch.',
  },
  CUPEL_TRAIN_NO_TEACHER: {
    exit: 2,
    what: 'A distillation was started without a teacher.',
    mend: 'Name a teacher checkpoint whose engine can learn.',
  },
  CUPEL_TRAIN_TEACHER_VOCABULARY: {
    exit: 2,
    what: 'Teacher and student have different vocabularies: their distributions can not be compared.',
    mend: 'Use a teacher with the tokenizer of the student.',
  },
  CUPEL_TRAIN_MISMATCH_NEEDS_TWO: {
    exit: 2,
    what: 'An objective that reads prompts with the answers of other examples was given a single example.',
    mend: 'Give at least two examples with different answers.',
  },
  CUPEL_TRAIN_CHECKPOINT_FAILED: {
    exit: 2,
    what: 'A checkpoint could not be written; training was stopped. The last whole checkpoint is kept.',
    mend: 'Make room on the disk, or mend the rights of the folder, and resume.',
  },
  CUPEL_TRAIN_RESUME_DATA: {
    exit: 2,
    what: 'A run can not go on: its training data, or how it becomes tokens, has changed since the checkpoint.',
    mend: 'Put the data back, or start anew in another work folder.',
  },
  CUPEL_TRAIN_RESUME_RECIPE: {
    exit: 2,
    what: 'A run can not go on: its recipe, objective or seed has changed since the checkpoint.',
    mend: 'Put the recipe back, or start anew in another work folder.',
  },
  CUPEL_TRAIN_RESUME_BASE: {
    exit: 2,
    what: 'A run can not go on: its base checkpoint, chat template or teacher has changed since the checkpoint.',
    mend: 'Put the base back, or start anew in another work folder.',
  },
  CUPEL_TRAIN_RESUME_STEPS: {
    exit: 2,
    what: 'A run can not go on: the number of all its steps has changed, and with it the learning rate of each.',
    mend: 'Put epochs, batch size and data back, or start anew in another work folder.',
  },
  CUPEL_TRAIN_CHECKPOINT_DAMAGED: {
    exit: 2,
    what: 'A checkpoint of an interrupted run is not whole; the one before it is taken. A warning.',
    mend: 'Nothing has to be done. If it comes again, look at the disk.',
  },
  CUPEL_TRAIN_REFERENCES_DAMAGED: {
    exit: 2,
    what: 'The file of reference log-probabilities is not what was written; they are computed anew. A warning.',
    mend: 'Nothing has to be done. If it comes again, look at the disk.',
  },
  CUPEL_TRAIN_RESUME_VERSION: {
    exit: 2,
    what: 'A run goes on with another version of the program: the rest of it may differ in bits. A warning.',
    mend: 'Go on with the version that wrote the checkpoint where bits matter.',
  },
  CUPEL_TRAIN_NOT_MEASURED: {
    exit: 2,
    what: 'A checkpoint could not be measured while training; it is not taken for the best. A warning.',
    mend: 'Look at what the validation suite said.',
  },
  CUPEL_TRAIN_CHOSEN_FALLS: {
    exit: 2,
    what: 'Preference training makes the answers that it is to learn much less likely. A warning.',
    mend: 'Lower the learning rate, raise beta, or add a likelihood term on chosen answers.',
  },
  CUPEL_TRAIN_MERGE_DIFFERS: {
    exit: 2,
    what: 'A model that adapters were merged into says something else than the adapters over their base. A warning.',
    mend: 'Save as f32, or ship the adapter beside its base.',
  },
  CUPEL_TRAIN_STOP_RATE: {
    exit: 2,
    what: 'The trained model does not end its answers to prompts that it was trained on: it runs on. A warning.',
    mend: 'Train longer or with a higher learning rate, and see that the end of turn is what the answers end with.',
  },
  CUPEL_TRAIN_WORK_IN_USE: {
    exit: 2,
    what: 'Another training is writing to the same work folder, or makes the same checkpoint.',
    mend: 'Wait until it ends. If it runs on a machine that is gone, remove the lock file that is named.',
  },
  CUPEL_TRAIN_REFERENCES_NOT_KEPT: {
    exit: 2,
    what: 'Reference log-probabilities could not be written to the work folder; a resumed run computes them again. A warning.',
    mend: 'Make room on the disk, or mend the rights of the folder.',
  },
  CUPEL_TRAIN_LOG_FAILED: {
    exit: 2,
    what: 'A log of a training could not be written or sent; the training went on without it. A warning.',
    mend: 'Make room on the disk, or look at the address of the tracking server.',
  },
});
