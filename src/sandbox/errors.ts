import { defineErrors } from '../kit/index.ts';

export const sandboxErrors = defineErrors({
  CUPEL_SANDBOX_REFUSED: {
    exit: 2,
    what: 'A validator asked to run code that a model wrote; this version has no sandbox and refuses.',
    mend: 'Score the text of the completion instead, or leave the case out with --filter.',
  },
});
