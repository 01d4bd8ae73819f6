import type { Objective, PreparedRow, TrainingRow } from '../contracts/index.ts';
import type { TokenSequence } from './sequence.ts';

/** A row as token sequences: one, or chosen and rejected. A preference row makes two labelled examples. */
export interface Example extends PreparedRow {
  readonly sequences: readonly TokenSequence[];
  /** What it was made of. Ids are those of a dataset, and not always unique among several. */
  readonly source?: TrainingRow;
  /** Tokens that were cut off, or for a window that lie outside of it. Absent: none. */
  readonly cutTokens?: number;
  /** Labelled tokens that were lost when it was cut. Absent: none. */
  readonly lostLabels?: number;
}

export type ExampleShape = Pick<Objective, 'name' | 'sequences' | 'promptLabels'>;
