/** A trap that the trackers of trainers are full of, and what catches it here. */
export interface TrainingCheck {
  /** 1 to 15. */
  readonly row: number;
  readonly trap: string;
  /** What is looked at. */
  readonly check: string;
  /** Errors and warnings that say so. */
  readonly codes: readonly string[];
  readonly severity: 'error' | 'warning' | 'both';
  /**
   * `rows`: while rows become tokens. `before`: before a learner is opened. `probe`: on the opened learner, before the
   * first step. `loop`: while training, or at resume. `saved`: on what was saved. `trainer`: in the trainer's own tests.
   */
  readonly when: 'rows' | 'before' | 'probe' | 'loop' | 'saved' | 'trainer';
  /** Folder of fixtures/training/checks. */
  readonly fixture: string;
}

/** Held together with docs/guides/training-data.md and the fixtures by tests. */
export const trainingChecks: readonly TrainingCheck[] = [
  {
    row: 1,
    trap: 'A mask without labels trains on nothing, and the loss looks normal.',
    check: 'Labelled tokens are counted in every row; none is an error. Three examples are shown with what is trained.',
    codes: ['CUPEL_TRAIN_NOTHING_TO_LEARN'],
    severity: 'error',
    when: 'rows',
    fixture: '1-no-labels',
  },
  {
    row: 2,
    trap: 'Turns of the system, the user or a tool are trained.',
    check: 'What is labelled is decoded, and has to be the assistant’s answer and the end of turn, nothing else.',
    codes: ['CUPEL_TRAIN_TURN_NOT_ASSISTANT', 'CUPEL_TRAIN_SPECIAL_TOKEN_IN_TEXT', 'CUPEL_TRAIN_WRONG_LABELS'],
    severity: 'error',
    when: 'rows',
    fixture: '2-wrong-turns',
  },
  {
    row: 3,
    trap: 'The template of training is not that of inference.',
    check:
      'The tokens of every prompt have to be a prefix of those of the conversation; the digest of the template is recorded and compared with that of the base.',
    codes: ['CUPEL_TRAIN_NOT_A_PREFIX', 'CUPEL_TRAIN_TEMPLATE_DROPS', 'CUPEL_TRAIN_TEMPLATE_CHANGED'],
    severity: 'both',
    when: 'rows',
    fixture: '3-template-drift',
  },
  {
    row: 4,
    trap: 'The end of turn is never learned, and the model does not stop.',
    check:
      'Every answer that is not cut ends with a labelled end of turn. Labels go by position: padding that is the end of turn is a warning.',
    codes: ['CUPEL_TRAIN_NO_END_OF_TURN', 'CUPEL_TRAIN_WRONG_LABELS', 'CUPEL_TRAIN_PAD_IS_END'],
    severity: 'both',
    when: 'rows',
    fixture: '4-end-of-turn',
  },
  {
    row: 5,
    trap: 'Two tokens open the sequence.',
    check: 'Special tokens of every row are counted, and have to be those that the template writes for its roles.',
    codes: ['CUPEL_TRAIN_BEGIN_OF_SEQUENCE', 'CUPEL_TRAIN_SPECIAL_TOKEN_IN_PROMPT'],
    severity: 'both',
    when: 'before',
    fixture: '5-begin-of-sequence',
  },
  {
    row: 6,
    trap: 'Answers are cut silently.',
    check:
      'A row that is too long is an error unless `overlong` says otherwise. Rows that are left out are counted; more than 1 % that are cut so that they lose labels are an error.',
    codes: ['CUPEL_TRAIN_ROW_TOO_LONG', 'CUPEL_TRAIN_LABELS_LOST', 'CUPEL_TRAIN_ROWS_CUT'],
    severity: 'both',
    when: 'before',
    fixture: '6-truncation',
  },
  {
    row: 7,
    trap: 'Accumulated gradients are not those of the large batch.',
    check:
      'Every part of a step divides by the labelled tokens of the whole step; the objective is asked once both ways.',
    codes: ['CUPEL_TRAIN_ACCUMULATION'],
    severity: 'error',
    when: 'probe',
    fixture: '7-accumulation',
  },
  {
    row: 8,
    trap: 'A resumed run jumps, or repeats its order.',
    check:
      'Checkpoints hold weights, moments, place in the data and best result; other data, recipe, base or steps are refused.',
    codes: [
      'CUPEL_TRAIN_RESUME_DATA',
      'CUPEL_TRAIN_RESUME_RECIPE',
      'CUPEL_TRAIN_RESUME_BASE',
      'CUPEL_TRAIN_RESUME_STEPS',
    ],
    severity: 'error',
    when: 'loop',
    fixture: '8-resume',
  },
  {
    row: 9,
    trap: 'Packed sequences see each other.',
    check: 'The learner is asked for the same log-probabilities packed and alone.',
    codes: ['CUPEL_TRAIN_PACKING_LEAK'],
    severity: 'error',
    when: 'probe',
    fixture: '9-packing',
  },
  {
    row: 10,
    trap: 'The loss is NaN, zero or stays at ln 2.',
    check:
      'Chosen and rejected differ in tokens; the first loss is that of the reference; training stops at a value that is not finite, and says which rows.',
    codes: ['CUPEL_TRAIN_PAIR_EQUAL', 'CUPEL_TRAIN_REFERENCE_DIFFERS', 'CUPEL_TRAIN_NOT_FINITE'],
    severity: 'error',
    when: 'rows',
    fixture: '10-equal-pair',
  },
  {
    row: 11,
    trap: 'KTO with one example a step, or with one kind of example.',
    check: 'At least two examples a step; the weighted ratio of both kinds is told where it is not between 1 and 4/3.',
    codes: ['CUPEL_TRAIN_KTO_BATCH', 'CUPEL_TRAIN_MISMATCH_NEEDS_TWO', 'CUPEL_TRAIN_LABEL_BALANCE'],
    severity: 'both',
    when: 'before',
    fixture: '11-unpaired',
  },
  {
    row: 12,
    trap: 'A tied head is lost when adapters are merged.',
    check: 'Adapters on embedding or head of a tied model are refused; what was merged is compared with its adapter.',
    codes: ['CUPEL_TRAIN_TIED_HEAD', 'CUPEL_TRAIN_MERGE_DIFFERS'],
    severity: 'both',
    when: 'before',
    fixture: '12-tied-head',
  },
  {
    row: 13,
    trap: 'An adapter that was trained over 4-bit weights is merged into others.',
    check: 'It is merged into the dequantized base that it was trained over, and a warning says what to gate.',
    codes: ['CUPEL_TRAIN_QLORA_MERGE'],
    severity: 'warning',
    when: 'before',
    fixture: '13-qlora-merge',
  },
  {
    row: 14,
    trap: 'The loss is good, and the model has forgotten.',
    check: 'Neither replay nor a regression suite is a warning; the gate decides.',
    codes: ['CUPEL_TRAIN_NO_REPLAY'],
    severity: 'warning',
    when: 'before',
    fixture: '14-forgetting',
  },
  {
    row: 15,
    trap: 'Another version changes masks silently.',
    check:
      'The template’s digest is compared with that of the base’s training; the versions of a Python trainer are pinned, and it has to pass its self-test.',
    codes: ['CUPEL_TRAIN_TEMPLATE_CHANGED', 'CUPEL_TRL_VERSIONS', 'CUPEL_TRL_SELF_TEST'],
    severity: 'both',
    when: 'before',
    fixture: '15-version-drift',
  },
];
