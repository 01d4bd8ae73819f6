import type { Example } from '../examples.ts';
import { tokenCount } from '../packing.ts';
import { type Finding, rowList } from './finding.ts';
import type { CheckInput } from './input.ts';

/** Share of rows that may lose labelled tokens and still be trained. */
const mostLost = 0.01;

/** Fewest tokens that half, nine of ten, 99 of 100 and all examples stay within. */
function quantilesOf(
  examples: readonly Example[],
): [half: number, ninety: number, ninetyNine: number, longest: number] {
  const lengths = examples.map(tokenCount).sort((one, other) => one - other);
  const at = (share: number): number => lengths[Math.max(0, Math.ceil(share * lengths.length) - 1)] ?? 0;
  return [at(0.5), at(0.9), at(0.99), at(1)];
}

/**
 * Rows that were cut or left out. To leave them out was asked for, and is a warning with their number; where more than one
 * in a hundred lost labelled tokens of a row that stays, it is an error.
 */
export function checkLengths({ rows, examples }: Pick<CheckInput, 'rows' | 'examples'>): Finding[] {
  const kept = new Set(examples.map(({ source }) => source));
  const left = rows.filter((row) => !kept.has(row)).map(({ id }) => id);
  const cut = new Map(examples.flatMap((one) => (one.cutTokens === undefined ? [] : [[one.source, rowOf(one)]])));
  const lost = examples.filter((one) => one.lostLabels !== undefined).map(rowOf);
  if (left.length + cut.size === 0) return [];
  const [half, ninety, ninetyNine, longest] = quantilesOf(examples);
  const shown = `lengths now: half up to ${half} tokens, 90 % up to ${ninety}, 99 % up to ${ninetyNine}, longest ${longest}`;
  if (lost.length > mostLost * rows.length) {
    return [
      {
        code: 'CUPEL_TRAIN_LABELS_LOST',
        severity: 'error',
        message: `${lost.length} of ${rows.length} rows were cut so that they lose labelled tokens; ${shown}`,
        where: rowList(lost),
      },
    ];
  }
  const all = `of ${rows.length} rows`;
  const told = [
    ...(left.length === 0 ? [] : [`${left.length} ${all} were left out`]),
    ...(cut.size === 0 ? [] : [`${cut.size} ${all} were cut`]),
  ];
  return [
    {
      code: 'CUPEL_TRAIN_ROWS_CUT',
      severity: 'warning',
      message: `${told.join(', ')}; ${shown}`,
      where: rowList([...left, ...cut.values()]),
    },
  ];
}

function rowOf(example: Example): string {
  return example.source?.id ?? example.id;
}
