import { defineErrors } from '../kit/index.ts';

export const suiteErrors = defineErrors({
  CUPEL_SUITE_ID: {
    exit: 2,
    what: "A suite's id differs from the name of its folder, so that nobody could find it by its id.",
    mend: 'Rename the folder, or set `id` in suite.yaml to its name.',
  },
  CUPEL_SUITE_EXTENDS: {
    exit: 2,
    what: 'A suite extends itself, directly or by way of others, or the chain is longer than 4.',
    mend: 'Let `extends` name the folder of a suite that stands on its own.',
  },
  CUPEL_SUITE_PATH: {
    exit: 2,
    what: 'A case file lies outside the folder of its suite, or is of a kind that cannot be read.',
    mend: 'Put the cases below the suite folder as .jsonl, .yaml or .yml, and name them by a relative path.',
  },
  CUPEL_SUITE_SPLIT_UNKNOWN: {
    exit: 2,
    what: 'A split was asked for that the suite does not have.',
    mend: 'Ask for one of the splits that are named.',
  },
  CUPEL_SUITE_SPLIT_EMPTY: {
    exit: 2,
    what: 'A split has no cases: nothing would be measured.',
    mend: 'Add cases to the file, or remove the split from suite.yaml.',
  },
  CUPEL_SUITE_DUPLICATE: {
    exit: 2,
    what: 'Two cases of a split, or two metrics of a suite, have the same name.',
    mend: 'Rename one of the two.',
  },
  CUPEL_SUITE_TWIN: {
    exit: 2,
    what: 'An attack names a benign twin that the split does not have, or a twin that has a twin itself.',
    mend: 'Let `twin` be the id of a benign case of the same split.',
  },
  CUPEL_SUITE_PROMPT_FIELD: {
    exit: 2,
    what: 'The prompt, a worked example or a reference behaviour reads a field that a case does not have.',
    mend: 'Add the field to `input` of the case, or take it out of the prompt.',
  },
  CUPEL_SUITE_TASK: {
    exit: 2,
    what: "A field that the suite's task needs is missing, or one stands there that only another task reads.",
    mend: 'pairwise suites need `pairwise`; episode suites need `world` and `tools`; choice cases need `input.options`.',
  },
});
