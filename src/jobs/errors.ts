import { defineErrors } from '../kit/index.ts';

export const jobErrors = defineErrors({
  CUPEL_CHECKPOINT_UNKNOWN: {
    exit: 2,
    what: 'No checkpoint has the id that was asked for.',
    mend: 'Name a checkpoint of the config, one that was trained into the store, or the path of a folder.',
  },
  CUPEL_CHECKPOINT_NO_ENGINE: {
    exit: 2,
    what: 'No engine accepts the checkpoint.',
    mend: 'A Hugging Face folder needs config.json, safetensors and tokenizer.json; a GGUF checkpoint is one .gguf file.',
  },
  CUPEL_CHECKPOINT_ADAPTER: {
    exit: 2,
    what: 'A checkpoint that is a base with an adapter was used for what only whole checkpoints can do.',
    mend: 'Merge the adapter into its base (`cupel merge-models --method adapter`, or a recipe with `tuning.save: model`), and name the merged checkpoint.',
  },
  CUPEL_ID_INVALID: {
    exit: 2,
    what: 'A new checkpoint or dataset was given a name that cannot be a file name of the store, or that is taken.',
    mend: 'Use small letters, digits and hyphens, at most 64, starting with a letter or digit.',
  },
  CUPEL_QUANTIZE_TARGET: {
    exit: 2,
    what: 'A quantized checkpoint can not be written to the target: it exists, or its name does not fit the type.',
    mend: 'Name a new file that ends in .gguf, or for w8a8 a new folder.',
  },
  CUPEL_QUANTIZE_NO_ENGINE: {
    exit: 2,
    what: 'No engine that reads the checkpoint can quantize or compare it.',
    mend: 'Give a Hugging Face folder or a GGUF file of an architecture that the native engine knows.',
  },
  CUPEL_METRIC_UNKNOWN: {
    exit: 2,
    what: 'The config names a metric that no suite of the checkpoint defines.',
    mend: 'Write the metric as suite/metric, as the suite defines it.',
  },
  CUPEL_DATASET_UNKNOWN: {
    exit: 2,
    what: 'No dataset has the id that was asked for.',
    mend: 'Name a dataset of the config, one that was made into the store, or the path of a JSONL file.',
  },
  CUPEL_CONFIG_NO_POLICY: {
    exit: 2,
    what: 'A gate was asked for, and the config names no policy.',
    mend: 'Add `policy: policy.yaml` to the config.',
  },
  CUPEL_CONFIG_NO_PIPELINE: {
    exit: 2,
    what: 'The config has no pipeline to run.',
    mend: 'Add `pipeline:` with at least one step.',
  },
  CUPEL_ENGINE_CANNOT_LEARN: {
    exit: 2,
    what: 'A trainer needs an engine that can learn, and the engine of the base checkpoint cannot.',
    mend: 'Use a base checkpoint that the native engine opens.',
  },
  CUPEL_GATE_NO_RUNS: {
    exit: 4,
    what: 'The gate found no finished run for a checkpoint.',
    mend: 'Evaluate the checkpoint first: cupel run --checkpoint <id>.',
  },
  CUPEL_PROMOTE_NOT_ALLOWED: {
    exit: 1,
    what: 'A checkpoint without a PROMOTE verdict was to be promoted.',
    mend: 'Read the verdict; only a candidate that passes the gate is promoted.',
  },
  CUPEL_PROMOTE_STALE: {
    exit: 4,
    what: 'The verdict was given against a checkpoint that is no longer current, or on other weights.',
    mend: 'Run the gate again: cupel gate <candidate>.',
  },
  CUPEL_NOTHING_PROMOTED: {
    exit: 4,
    what: 'The channel holds no promoted checkpoint to verify or roll back.',
    mend: 'Promote a checkpoint first.',
  },
  CUPEL_VERIFY_FAILED: {
    exit: 4,
    what: 'The evidence of a promotion does not hold.',
    mend: 'Read which check failed; evidence or checkpoint were changed after signing.',
  },
  CUPEL_DEMO_EXPECTATION: {
    exit: 1,
    what: 'A pipeline step ended with another verdict than the config expects.',
    mend: 'Read the verdict and its scorecard.',
  },
  CUPEL_RESUME_NOTHING: {
    exit: 2,
    what: 'There is no interrupted pipeline to resume.',
    mend: 'Start one with `cupel demo` or `cupel pipeline -c cupel.config.yaml`.',
  },
  CUPEL_PIPELINE_INTERRUPTED: {
    exit: 130,
    what: 'The work was interrupted; everything finished is kept.',
    mend: 'Go on with `cupel resume`.',
  },
  CUPEL_RECIPE_INTERRUPTED: {
    exit: 130,
    what: 'A training was interrupted; what its last checkpoint holds is kept.',
    mend: 'Give the same command again with --resume.',
  },
  CUPEL_RECIPE_UNFINISHED: {
    exit: 2,
    what: 'An interrupted training of the same name lies in the store, and it was not said what becomes of it.',
    mend: 'Go on with --resume, or throw it away with --fresh.',
  },
  CUPEL_RECIPE_MEMORY: {
    exit: 2,
    what: 'The plan of a training needs more memory than this machine has free.',
    mend: 'Use a smaller `microBatchTokens`, `recompute: true`, or `tuning: lora`; or say --ignore-memory.',
  },
  CUPEL_RECIPE_VALIDATION: {
    exit: 2,
    what: 'A recipe names a validation suite or metric that is not there, or asks for a sweep without one.',
    mend: 'Name a suite that has a split `validation`, and one of its metrics.',
  },
  CUPEL_RECIPE_SWEEP: {
    exit: 2,
    what: 'A sweep can not be made as it is written.',
    mend: 'Vary fields of the recipe, with at least two values that differ, in few combinations.',
  },
  CUPEL_TRAINER_NEEDS_NOTHING: {
    exit: 2,
    what: 'A trainer was to be set up that runs on nothing beside this package.',
    mend: 'Set up `trl`; the other trainers are ready.',
  },
  CUPEL_EXPORT_BASE: {
    exit: 2,
    what: 'A training was to be exported whose base other programs can not read.',
    mend: 'Name a Hugging Face folder as `base`.',
  },
  CUPEL_EXPORT_FOLDER: {
    exit: 2,
    what: 'The folder that an export would write to holds something already.',
    mend: 'Choose another folder with -o, or empty it.',
  },
});
