import { defineErrors } from '../kit/index.ts';

export const cliErrors = defineErrors({
  CUPEL_CLI_USAGE: {
    exit: 2,
    what: 'The command line was not understood.',
    mend: 'Run `cupel --help`, or `cupel <command> --help`.',
  },
  CUPEL_CLI_INTERRUPTED: {
    exit: 130,
    what: 'A command was interrupted by Ctrl-C; finished rows are kept.',
    mend: 'Give the command again: what is finished is not done twice. A pipeline goes on with `cupel resume`.',
  },
});
