import { defineErrors } from '../kit/index.ts';

export const runErrors = defineErrors({
  CUPEL_RUN_SPLIT_UNKNOWN: {
    exit: 2,
    what: 'A suite has no split of this name.',
    mend: 'Use one of the splits that are named.',
  },
  CUPEL_RUN_NO_CASES: {
    exit: 2,
    what: 'Nothing is left to evaluate after filter and limit.',
    mend: 'Widen --filter or --limit.',
  },
  CUPEL_RUN_CASE_DUPLICATE: {
    exit: 2,
    what: 'Two cases of a split have the same id.',
    mend: 'Give each case an id of its own.',
  },
  CUPEL_RUN_OPTION_INVALID: {
    exit: 2,
    what: 'A limit, concurrency, number of epochs or seed is out of its range.',
    mend: 'Use a whole number in the range that is named.',
  },
  CUPEL_RUN_PROMPT_FIELD_UNKNOWN: {
    exit: 2,
    what: 'A prompt template names a field that the input of a case or of a worked example does not have.',
    mend: 'Add the field to the input, or correct its name in the template.',
  },
  CUPEL_RUN_PROMPT_INVALID: {
    exit: 2,
    what: 'A prompt template is malformed: text between double braces that is not a field name, or a shape that the task cannot use.',
    mend: 'Between double braces write the name of one field of the input; a choice suite has exactly one user message.',
  },
  CUPEL_RUN_OPTIONS_INVALID: {
    exit: 2,
    what: 'A case of a choice suite has no list of at least two different, non-empty options.',
    mend: 'Give input.options as a list of texts, each with the white space that stands before it in running text.',
  },
  CUPEL_RUN_ENGINE_CANNOT: {
    exit: 2,
    what: 'The engine cannot do what the suite needs.',
    mend: 'Use an engine that can, or another suite.',
  },
  CUPEL_RUN_TASK_UNSUITED: {
    exit: 2,
    what: 'The suite has a task that this command cannot run.',
    mend: 'Run pairwise suites as a comparison of two runs; references need completions or episodes.',
  },
  CUPEL_RUN_REFERENCE_INVALID: {
    exit: 2,
    what: 'A reference behaviour cannot be played: a case lacks the text field that it names.',
    mend: 'Add the field to the input of each case, or give the reference a fixed text.',
  },
  CUPEL_RUN_PAIRS_UNSUITED: {
    exit: 2,
    what: 'Two runs cannot be compared by this suite: they belong to another suite or split, or are not complete.',
    mend: 'Evaluate both checkpoints on the suite and split that the pairwise suite names.',
  },
  CUPEL_RUN_ENGINE_FAILED: {
    exit: 70,
    what: 'The engine stopped with an error in the middle of a run. Finished rows are kept.',
    mend: 'Mend what the message names, then resume.',
  },
  CUPEL_RUN_ENGINE_BROKE_CONTRACT: {
    exit: 70,
    what: 'The engine answered a request that was not asked, or the same twice.',
    mend: 'Report this to the author of the engine.',
  },
  CUPEL_RUN_JUDGE_FAILED: {
    exit: 70,
    what: 'The judge stopped with an error. Finished pairs are kept.',
    mend: 'Mend what the message names, then resume.',
  },
  CUPEL_RUN_INTERRUPTED: {
    exit: 130,
    what: 'The run was interrupted. Finished rows are kept.',
    mend: 'Run the same command again, or cupel resume: finished rows are not computed again.',
  },
  CUPEL_RUN_VALIDATOR_FAILED: {
    exit: 4,
    what: 'A validator threw, or emitted a score that it may not. The row is kept as an error, apart from failures of the model.',
    mend: 'Mend the validator and evaluate again.',
  },
  CUPEL_RUN_NO_COMPLETION: {
    exit: 4,
    what: 'The engine ended without a completion for a case. The row is kept as an error.',
    mend: 'Evaluate again; if it stays, report it to the author of the engine.',
  },
  CUPEL_RUN_SCORE_INVALID: {
    exit: 4,
    what: 'The log-likelihood of an option could not be measured, or is not a finite number. The row is kept as an error.',
    mend: 'Check the option and its context for length; if they are right, report it to the author of the engine.',
  },
  CUPEL_RUN_WINDOW_EXCEEDED: {
    exit: 2,
    what: 'A continuation, or the number of tokens to generate, is longer than the model can read at once.',
    mend: 'Shorten it, or use a model with a longer context.',
  },
});
