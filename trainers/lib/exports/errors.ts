import { defineErrors } from '../../../src/kit/index.ts';

export const exportErrors = defineErrors({
  CUPEL_EXPORT_CANNOT: {
    exit: 2,
    what: 'The program that a training is exported for can not be told a setting of it, or takes it for something else.',
    mend: 'Change the named setting, or train here.',
  },
  CUPEL_EXPORT_ROW: {
    exit: 2,
    what: 'A row can not be written in the dataset format of the program that a training is exported for.',
    mend: 'Change the row, or train here.',
  },
});
