import { defineErrors } from '../../src/kit/index.ts';

export const trlErrors = defineErrors({
  CUPEL_TRL_NO_ENVIRONMENT: {
    exit: 2,
    what: 'The Python environment of the trainer trl is not there, was changed, or has not passed its self-test.',
    mend: 'Run `cupel doctor --setup trl`.',
  },
  CUPEL_TRL_SETUP: {
    exit: 2,
    what: 'The Python environment of the trainer trl could not be made.',
    mend: 'Read the command and its last lines. Python 3.11 with its module venv, or uv, a package index that can be reached and 8 GB of disk are needed. What was begun is gone on with.',
  },
  CUPEL_TRL_SELF_TEST: {
    exit: 2,
    what: 'TRL as installed does not give the reference curves, so it is not trusted.',
    mend: 'Make the environment anew: remove its folder and run `cupel doctor --setup trl`.',
  },
  CUPEL_TRL_CANNOT: {
    exit: 2,
    what: 'The job asks the trainer trl for something that TRL does not do, or silently ignores.',
    mend: 'Leave the named setting out, or use a native trainer.',
  },
  CUPEL_TRL_ROWS: {
    exit: 2,
    what: 'The rows can not be divided or expressed as the trainer trl needs them.',
    mend: 'Change the rows, the batch size, or the number of processes as the message says.',
  },
  CUPEL_TRL_WORLD_SIZE: {
    exit: 2,
    what: 'Another number of processes ran than was asked for.',
    mend: 'Look into the log that is named; nothing was trained.',
  },
  CUPEL_TRL_VERSIONS: {
    exit: 2,
    what: 'The child process runs other package versions than those that are pinned.',
    mend: 'Make the environment anew: remove its folder and run `cupel doctor --setup trl`.',
  },
  CUPEL_TRL_DEVICE: {
    exit: 2,
    what: 'The device that was asked for is not there.',
    mend: 'Set `device` to cpu, or to auto.',
  },
  CUPEL_TRL_NOT_FINITE: {
    exit: 2,
    what: 'A loss or gradient became NaN or infinite; training was stopped, and no checkpoint was made of it.',
    mend: 'Lower the learning rate, keep gradient clipping on, and look at the rows of the step that is named.',
  },
  CUPEL_TRL_STOPPED: {
    exit: 130,
    what: 'Training was stopped from outside.',
    mend: 'Run the command again with --resume; it goes on from the last checkpoint, where checkpoints were kept.',
  },
  CUPEL_TRL_IN_USE: {
    exit: 2,
    what: 'Another training writes to the same work folder or result, or an environment is being made by another process.',
    mend: 'Wait until it ends, or end it. If it runs on a machine that is gone, remove the lock file that is named.',
  },
  CUPEL_TRL_WRITE: {
    exit: 2,
    what: 'A file of a training by TRL could not be written.',
    mend: 'Make room on the disk, or mend the rights of the folder, and run the command again with --resume.',
  },
  CUPEL_TRL_RESUME: {
    exit: 2,
    what: 'A run was to go on that was started with another job: other rows, steps or settings.',
    mend: 'Run it without --resume, or with the job as it was.',
  },
  CUPEL_TRL_DIVIDED: {
    exit: 2,
    what: 'A warning: the value of a step depends on how it is divided among processes and micro-batches.',
    mend: 'Use one process and one micro-batch a step where the value of the undivided step is wanted.',
  },
  CUPEL_TRL_FAILED: {
    exit: 2,
    what: 'The child process failed.',
    mend: 'Read the log that is named.',
  },
  CUPEL_TRL_EVENTS: {
    exit: 70,
    what: 'The child process reported an event that is not understood.',
    mend: 'Report this with the line that is named.',
  },
  CUPEL_TRL_RESULT: {
    exit: 4,
    what: 'The checkpoint that TRL wrote is not what was trained: a file, a tensor or a shape is wrong, or it scores otherwise.',
    mend: 'Do not use it; read the log that is named.',
  },
});
