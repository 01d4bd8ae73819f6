import { defineErrors } from '../kit/index.ts';

export const storeErrors = defineErrors({
  CUPEL_STORE_LINE_CORRUPT: {
    exit: 4,
    what: 'A stored line does not match its checksum: the file was changed or damaged after it was written.',
    mend: 'Restore the file from a copy, or delete the run folder and evaluate again.',
  },
  CUPEL_STORE_LOCKED: {
    exit: 2,
    what: 'Another process is writing to the same run, channel or journal.',
    mend: 'Wait until it ends. If it runs on a machine that is gone, remove the lock file that is named.',
  },
  CUPEL_STORE_RUN_MISSING: {
    exit: 2,
    what: 'There is no run with this id.',
    mend: 'List the runs, or evaluate first.',
  },
  CUPEL_STORE_MANIFEST_INVALID: {
    exit: 4,
    what: 'The manifest of a run is not what was written: its identity, row count or digest does not hold.',
    mend: 'Restore the run folder from a copy, or delete it and evaluate again.',
  },
  CUPEL_STORE_VERSION_UNKNOWN: {
    exit: 2,
    what: 'A stored file has a format version that this program does not know.',
    mend: 'Read it with the version that wrote it, or a newer one.',
  },
  CUPEL_STORE_ROW_CONFLICT: {
    exit: 70,
    what: 'A run got a second row for the same case and epoch, a row of another suite, or a row after its end.',
    mend: 'Report this with the command you ran.',
  },
  CUPEL_STORE_WRITE_FAILED: {
    exit: 2,
    what: 'The store could not be written, e.g. because the disk is full or read-only.',
    mend: 'Free space or mend permissions, then resume: finished rows are kept.',
  },
  CUPEL_STORE_CHECKPOINT_INVALID: {
    exit: 2,
    what: 'A checkpoint cannot be stored or promoted: the folder is missing or empty, or its digest is not in the store.',
    mend: 'Add the folder to the store first, and promote the digest that was given back.',
  },
  CUPEL_STORE_CHECKPOINT_CHANGED: {
    exit: 4,
    what: 'A stored checkpoint no longer has the digest that names it.',
    mend: 'Remove the object folder that is named and add the checkpoint again from its source.',
  },
  CUPEL_STORE_CHANNEL_INVALID: {
    exit: 2,
    what: 'The name of a channel is not acceptable.',
    mend: 'Use up to 64 of a-z, 0-9, dot, hyphen and underscore, beginning with a letter or digit.',
  },
  CUPEL_STORE_HISTORY_BROKEN: {
    exit: 4,
    what: 'The history of a channel is not an unbroken chain: an entry was changed, removed or put in.',
    mend: 'Restore the channel file from a copy; its signed evidence says which entries are genuine.',
  },
  CUPEL_STORE_NOTHING_TO_ROLL_BACK: {
    exit: 2,
    what: 'The channel has no earlier checkpoint to go back to.',
    mend: 'Look at the history of the channel.',
  },
});
