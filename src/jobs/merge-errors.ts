import { defineErrors } from '../kit/index.ts';

export const mergeJobErrors = defineErrors({
  CUPEL_MERGE_TARGET: {
    exit: 2,
    what: 'The folder that a merge was to be written to exists already.',
    mend: 'Choose another folder, or remove the old one.',
  },
  CUPEL_MERGE_RECIPE: {
    exit: 2,
    what: 'A merge recipe, or the flags in its place, do not say what is to be merged.',
    mend: 'Name a method with the checkpoints that it needs; `cupel merge-models --help` shows an example of each.',
  },
  CUPEL_MERGE_ADAPTER_INVALID: {
    exit: 2,
    what: 'The folder of an adapter is not one that PEFT writes for LoRA.',
    mend: 'Name a folder with adapter_config.json and adapter_model.safetensors.',
  },
  CUPEL_MERGE_ADAPTER_DIFFERS: {
    exit: 70,
    what: 'A merged checkpoint does not compute what its base with the adapter beside it does. It was removed.',
    mend: 'Merge with the library that wrote the adapter, and report this with its adapter_config.json.',
  },
  CUPEL_MERGE_NO_ENGINE: {
    exit: 2,
    what: 'No engine can add an adapter to this base.',
    mend: 'Name the base as a Hugging Face folder of float weights.',
  },
});
