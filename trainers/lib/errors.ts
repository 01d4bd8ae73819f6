import { defineErrors } from '../../src/kit/index.ts';

export const trainerErrors = defineErrors({
  CUPEL_TRAINER_NO_SERVICES: {
    exit: 70,
    what: 'A trainer that works through the training room was started without it.',
    mend: 'Hand over `services` with the job.',
  },
  CUPEL_TRAINER_ROWS: {
    exit: 2,
    what: 'A classical baseline can not learn from these rows.',
    mend: 'Give rows of user message and JSON object answer, all with the same fields.',
  },
  CUPEL_TRAINER_PARAMETER: {
    exit: 2,
    what: 'A parameter of a trainer does nothing beside the others, or contradicts them.',
    mend: 'Leave the named parameter out, or choose what goes with it.',
  },
  CUPEL_TRAINER_NO_REPLAY: {
    exit: 2,
    what: 'A trainer that learns no text was given rows to replay.',
    mend: 'Remove `replay` from the training step.',
  },
  CUPEL_TRAINER_OUTPUT_EXISTS: {
    exit: 2,
    what: 'The folder for the new checkpoint exists already.',
    mend: 'Choose another output folder, or remove the old one.',
  },
});
