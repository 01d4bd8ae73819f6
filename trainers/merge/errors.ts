import { defineErrors } from '../../src/kit/index.ts';

export const mergeErrors = defineErrors({
  CUPEL_MERGE_INPUT: {
    exit: 2,
    what: 'A merge was asked for with checkpoints or parameters that its method can not use.',
    mend: 'Give the method what the message names; `cupel merge-models --help` shows an example of each.',
  },
  CUPEL_MERGE_CHECKPOINT: {
    exit: 2,
    what: 'A checkpoint to be merged is no Hugging Face folder with config.json and safetensors of floats.',
    mend: 'Name such a folder. A GGUF file can not be merged tensor by tensor: merge first, then quantize.',
  },
  CUPEL_MERGE_ARCHITECTURE: {
    exit: 2,
    what: 'Two checkpoints to be merged are of different architectures or sizes.',
    mend: 'Merge only checkpoints that were trained from one base.',
  },
  CUPEL_MERGE_TENSORS: {
    exit: 2,
    what: 'Two checkpoints to be merged have different tensors, or a tensor in different shapes.',
    mend: 'Merge only checkpoints that were trained from one base; bring extended vocabularies to one size first.',
  },
  CUPEL_MERGE_VOCABULARY: {
    exit: 2,
    what: 'Two checkpoints to be merged have different tokenizers: a row of the embedding would mean two tokens.',
    mend: 'Merge only checkpoints with the same vocabulary, merges and added tokens.',
  },
  CUPEL_MERGE_TIED_HEAD: {
    exit: 2,
    what: 'One checkpoint ties its head to its embedding and another to be merged with it does not.',
    mend: 'Save both in the same form first.',
  },
  CUPEL_MERGE_ADAPTER: {
    exit: 2,
    what: 'An adapter is no LoRA of the weights of this base, or changes more than W + scale · B A.',
    mend: 'Name the base that the adapter was trained over, or merge with the library that wrote it.',
  },
  CUPEL_MERGE_NOT_FINITE: {
    exit: 2,
    what: 'A tensor to be merged, or the result, holds NaN or infinity; nothing was written.',
    mend: 'Use a sound checkpoint; with `lambda` or weights above 1 the result itself may have overflowed.',
  },
  CUPEL_MERGE_OUTPUT_EXISTS: {
    exit: 2,
    what: 'The folder for the merged checkpoint exists already.',
    mend: 'Choose another output folder, or remove the old one.',
  },
});
