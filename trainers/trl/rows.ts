import type { PreparedRow, PreparedSequence } from '../../src/contracts/index.ts';
import { trlErrors } from './errors.ts';
import type { Method } from './methods.ts';

/** A row as the child process reads it: token ids, and 1 where a token is learned. */
export interface ChildRow {
  readonly id: string;
  readonly desirable?: boolean;
  readonly sequences: readonly {
    readonly tokens: readonly number[];
    readonly labels: readonly number[];
    readonly promptLength: number;
  }[];
}

/**
 * Prepared rows as TRL can be told them: a token is learned or it is not, and a preference is over whole answers.
 * @throws CUPEL_TRL_ROWS naming the row that says more than that
 */
export function childRows(rows: readonly PreparedRow[], shape: Method['sequences']): readonly ChildRow[] {
  return rows.map((row) => ({
    id: row.id,
    ...(row.desirable === undefined ? {} : { desirable: row.desirable }),
    sequences: row.sequences.map((sequence) =>
      shape === 'answer' ? masked(sequence, row.id) : wholeAnswer(sequence, row.id),
    ),
  }));
}

function masked({ tokens, weights, promptLength }: PreparedSequence, id: string): ChildRow['sequences'][number] {
  const odd = weights.find((weight) => weight !== 0 && weight !== 1);
  if (odd !== undefined) {
    throw trlErrors.CUPEL_TRL_ROWS({
      message: `a message has weight ${odd}; TRL learns a token or leaves it`,
      where: `row ${id}`,
      remedy: 'Give messages weight 0 or 1, or use the native trainer.',
    });
  }
  return { tokens: [...tokens], labels: [...weights], promptLength };
}

/** Without what follows the last labelled token: no loss of a causal model sees it. */
function wholeAnswer(sequence: PreparedSequence, id: string): ChildRow['sequences'][number] {
  const { tokens, labels } = masked(sequence, id);
  const start = labels.indexOf(1);
  const end = labels.lastIndexOf(1) + 1;
  if (start < 1 || labels.slice(start, end).includes(0)) {
    throw trlErrors.CUPEL_TRL_ROWS({
      message: 'the answer is not one run of labelled tokens after a prompt',
      where: `row ${id}`,
    });
  }
  return { tokens: tokens.slice(0, end), labels: labels.slice(0, end), promptLength: start };
}

/**
 * Refuses steps that can not be divided: every process needs a row in every micro-batch.
 * @throws CUPEL_TRL_ROWS
 */
export function checkSteps(steps: readonly (readonly number[])[], processes: number, accumulation: number): void {
  const parts = processes * accumulation;
  const short = steps.findIndex((rows) => rows.length < parts);
  if (short < 0) return;
  const count = steps[short]?.length ?? 0;
  throw trlErrors.CUPEL_TRL_ROWS({
    message: `step ${short + 1} has ${count} rows, to be divided into ${parts} parts (${processes} processes × ${accumulation} micro-batches)`,
    remedy: 'Choose a batch size that leaves at least so many rows in the last step of an epoch, or fewer processes.',
  });
}
