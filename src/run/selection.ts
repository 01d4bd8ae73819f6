import type { Case, RunIdentity, Suite } from '../contracts/index.ts';
import { digestOf, nearest } from '../kit/index.ts';
import { runErrors } from './errors.ts';

export interface Selection {
  readonly suite: Suite;
  readonly split: string;
  /** Keeps the cases for which it holds. */
  readonly filter?: (item: Case) => boolean;
  /** The first so many of what the filter kept, in the order of the suite. */
  readonly limit?: number;
}

/** @throws CUPEL_RUN_SPLIT_UNKNOWN, _NO_CASES, _CASE_DUPLICATE, _OPTION_INVALID */
export function selectCases({ suite, split, filter, limit }: Selection): readonly Case[] {
  const all = Object.hasOwn(suite.splits, split) ? suite.splits[split] : undefined;
  if (all === undefined) {
    const near = nearest(split, Object.keys(suite.splits));
    throw runErrors.CUPEL_RUN_SPLIT_UNKNOWN({
      message: `suite ${suite.id} has no split "${split}"${near === null ? '' : `; did you mean "${near}"?`} (it has: ${Object.keys(suite.splits).join(', ')})`,
      where: suite.path,
    });
  }
  const seen = new Set<string>();
  for (const { id } of all) {
    if (seen.has(id))
      throw runErrors.CUPEL_RUN_CASE_DUPLICATE({ message: `split ${split} has two cases "${id}"`, where: suite.path });
    seen.add(id);
  }
  if (limit !== undefined) checkWhole('limit', limit, 1);
  const chosen = (filter === undefined ? all : all.filter(filter)).slice(0, limit);
  if (chosen.length === 0)
    throw runErrors.CUPEL_RUN_NO_CASES({
      message: `no case of ${suite.id}/${split} is left of ${all.length}`,
      where: suite.path,
    });
  return chosen;
}

/** What an identity says of its cases: the order in which they were chosen does not count. */
export function caseSet(cases: readonly Case[]): NonNullable<RunIdentity['cases']> {
  const digests = [...cases].sort((a, b) => (a.id < b.id ? -1 : 1)).map(({ id, digest }) => [id, digest]);
  return { count: cases.length, digest: digestOf(digests) };
}

export function checkWhole(name: string, value: number, least: number): void {
  if (!Number.isSafeInteger(value) || value < least) {
    throw runErrors.CUPEL_RUN_OPTION_INVALID({
      message: `${name} is ${value}, which is not a whole number of at least ${least}`,
      where: name,
    });
  }
}
