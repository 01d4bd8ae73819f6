import { defineErrors } from '../../kit/index.ts';

export const vocabularyErrors = defineErrors({
  CUPEL_VOCABULARY_TOKENIZER: {
    exit: 2,
    what: 'The tokenizer of a checkpoint is not of a kind that can be extended: byte pairs in a tokenizer.json.',
    mend: 'Train without `vocabulary`, or with a base whose tokenizer.json holds a BPE model.',
  },
  CUPEL_VOCABULARY_CORPUS: {
    exit: 2,
    what: 'A corpus holds no piece of text that is worth a token of its own.',
    mend: 'Give more text, or lower `minimumCount`.',
  },
  CUPEL_VOCABULARY_WEIGHTS: {
    exit: 2,
    what: 'The embedding or the head of a checkpoint does not have the rows that its config and tokenizer name.',
    mend: 'Name a Hugging Face folder of float weights whose tokenizer belongs to it.',
  },
  CUPEL_VOCABULARY_ROUND_TRIP: {
    exit: 70,
    what: 'With the extended tokenizer a text comes back changed, or takes more tokens than before. Nothing was written.',
    mend: 'Train without `vocabulary`, and report this with the tokenizer.json of the base.',
  },
  CUPEL_VOCABULARY_OUTPUT_EXISTS: {
    exit: 2,
    what: 'The folder for the extended checkpoint exists already.',
    mend: 'Choose another output folder, or remove the old one.',
  },
});
