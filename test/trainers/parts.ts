import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ObjectiveExample, ObjectivePart } from '../../src/contracts/index.ts';
import { packageRoot } from '../../src/kit/index.ts';

export type Ragged = readonly (readonly number[])[];

/** A line of `fixtures/reference/losses/losses.jsonl`. */
export interface Reference {
  readonly id: string;
  readonly method: string;
  readonly loss_type: string | readonly string[] | null;
  readonly params: Readonly<Record<string, number | string | readonly number[] | null>>;
  readonly inputs: Readonly<Record<string, Ragged>> & { readonly labels?: readonly boolean[] };
  readonly expected: {
    readonly loss: number;
    readonly per_pair_loss?: readonly number[] | null;
    readonly metrics?: Readonly<Record<string, number>>;
  } & Readonly<Record<string, unknown>>;
}

export function readReferences(): readonly Reference[] {
  return readFileSync(join(packageRoot(), 'fixtures/reference/losses/losses.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Reference);
}

/** A whole step; totals are those of its examples unless told. */
export function partOf(
  examples: readonly ObjectiveExample[],
  replay: readonly ObjectiveExample[] = [],
  totals: Partial<ObjectivePart['totals']> = {},
): ObjectivePart {
  return {
    examples,
    replay,
    totals: {
      examples: examples.length,
      desirable: examples.filter(({ desirable }) => desirable === true).length,
      labelWeights: [weightOf(examples, 0), weightOf(examples, 1)],
      replayLabelWeight: weightOf(replay, 0),
      ...totals,
    },
  };
}

export function ones(lists: Ragged): number[][] {
  return lists.map((list) => list.map(() => 1));
}

function weightOf(examples: readonly ObjectiveExample[], sequence: number): number {
  return examples.reduce((sum, { weights }) => sum + Array.from(weights[sequence] ?? []).reduce((a, b) => a + b, 0), 0);
}
