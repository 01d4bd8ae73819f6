import { defineErrors } from '../kit/index.ts';

export const cliErrors = defineErrors({
  CUPEL_CLI_USAGE: {
    exit: 2,
    what: 'The command line was not understood.',
    mend: 'Run `cupel --help`, or `cupel <command> --help`.',
  },
});
