import type { Case, Row, TrainingMessage, TrainingRow } from '../contracts/index.ts';
import { Random } from '../kit/index.ts';
import { dataErrors } from './errors.ts';
import { failureKind } from './failure-kind.ts';

export interface MineOptions {
  /** Rows of a finished run with free decoding. */
  readonly rows: readonly Row[];
  /** Cases of the split that the run was made on. */
  readonly cases: readonly Case[];
  readonly renderPrompt: (one: Case) => readonly TrainingMessage[];
  /** The right answer as the model should have written it. */
  readonly renderGold: (one: Case) => string;
  /** At most this many pairs. */
  readonly limit: number;
  /**
   * What the pool holds in about the shares that the cases have, e.g. whether the right id is null. Mining failures
   * alone overrepresents what the model misses and teaches it to invent. Default: `targetShape`.
   */
  readonly balanceKey?: (one: Case) => string;
  /** Fields whose difference alone is no failure, e.g. free text. */
  readonly ignoreFields?: readonly string[];
  /** Shorter ÷ longer answer in characters must be at least this, so that length is not what is learnt. Default 0.8. */
  readonly minLengthRatio?: number;
  readonly seed: number;
}

export interface MineReport {
  readonly cases: number;
  readonly failures: number;
  /** Failures left out because the answers differ too much in length. */
  readonly droppedByLength: number;
  /** Failures left out to keep the shares of the balance key, or by the limit. */
  readonly droppedByBalance: number;
  readonly pairs: number;
  /** Pairs of each kind of failure, e.g. `order_id missing` or `urgency`; sorted. */
  readonly kinds: Readonly<Record<string, number>>;
  /** Share of each balance key among the cases and in the pool. */
  readonly balance: Readonly<Record<string, { readonly cases: number; readonly pairs: number }>>;
  readonly meanLength: { readonly chosen: number; readonly rejected: number };
}

export type PreferenceRow = Extract<TrainingRow, { readonly kind: 'preference' }>;

/** A balance key of fewer cases than this share does not hold back the others. */
const rareShare = 0.05;

/** A key may have this many times less than its share of the pool: what a model rarely misses is rarely mined. */
const maxSkew = 3;

interface Failure {
  readonly row: PreferenceRow;
  readonly kind: string;
  readonly key: string;
}

/**
 * Preference pairs from the failures of a run: rejected is what the model wrote, chosen the right answer. Within each
 * balance key kinds of failure take turns. Same input, same pairs, in the same order.
 * @throws CUPEL_DATA_TEST_SPLIT unless all rows are of the split `train` or `validation`; CUPEL_DATA_MINE_MISMATCH;
 * CUPEL_DATA_MINE_NOTHING
 */
export function minePreferences(options: MineOptions): {
  readonly rows: readonly PreferenceRow[];
  readonly report: MineReport;
} {
  const { cases, limit, seed } = options;
  checkSplits(options.rows);
  const keyOf = options.balanceKey ?? targetShape;
  const { failures, droppedByLength } = findFailures(options, keyOf);
  const caseCounts = countBy(cases, keyOf);
  const queues = new Map(
    [...caseCounts.keys()].map((key) => [
      key,
      takingTurns(
        failures.filter((one) => one.key === key),
        seed,
      ),
    ]),
  );
  // The pool shrinks until every key that is not rare, and failed at all, fills its share of it but for the skew.
  const common = [...caseCounts].filter(
    ([key, count]) => count >= rareShare * cases.length && (queues.get(key)?.length ?? 0) > 0,
  );
  const reachable = Math.min(
    limit,
    ...common.map(([key, count]) => Math.floor((maxSkew * (queues.get(key)?.length ?? 0) * cases.length) / count)),
  );
  const picked = [...caseCounts].flatMap(([key, count]) =>
    (queues.get(key) ?? []).slice(0, Math.floor((reachable * count) / cases.length)),
  );
  if (picked.length === 0) {
    const have = [...queues].map(([key, queue]) => `${key}: ${queue.length}`).join(', ');
    throw dataErrors.CUPEL_DATA_MINE_NOTHING({
      message: `${failures.length} usable failures (${have}), ${droppedByLength} dropped by length, limit ${limit}`,
      where: 'mine',
    });
  }
  const chosen = new Random(seed, 'mine order').shuffle(picked);
  return { rows: chosen.map(({ row }) => row), report: reportOf(cases, failures, droppedByLength, chosen, caseCounts) };
}

/** The null fields and the booleans of a case's target: the default balance key. */
export function targetShape(one: Case): string {
  const target = typeof one.target === 'object' && one.target !== null ? Object.entries(one.target) : [];
  const parts = target
    .filter(([, value]) => value === null || typeof value === 'boolean')
    .map(([name, value]) => `${name} ${String(value)}`);
  return parts.length === 0 ? 'any' : parts.sort().join(', ');
}

function checkSplits(rows: readonly Row[]): void {
  const stranger = rows.find(({ split }) => split !== 'train' && split !== 'validation');
  if (stranger === undefined) return;
  throw dataErrors.CUPEL_DATA_TEST_SPLIT({
    message: `row of case "${stranger.case}" is of the split "${stranger.split}"`,
    where: `${stranger.suite}: ${stranger.split}`,
  });
}

function findFailures(
  options: MineOptions,
  keyOf: (one: Case) => string,
): { failures: Failure[]; droppedByLength: number } {
  const byId = new Map(options.cases.map((one) => [one.id, one]));
  const failures: Failure[] = [];
  let droppedByLength = 0;
  for (const row of [...options.rows].sort((a, b) =>
    a.case < b.case ? -1 : a.case > b.case ? 1 : a.epoch - b.epoch,
  )) {
    const one = byId.get(row.case);
    if (one === undefined || one.digest !== row.caseDigest) {
      throw dataErrors.CUPEL_DATA_MINE_MISMATCH({
        message:
          one === undefined ? `case "${row.case}" is not in the suite` : `case "${row.case}" has changed since the run`,
        where: `${row.suite}: ${row.case}`,
      });
    }
    if (row.status !== 'ok' || row.output === null || row.epoch > 1) continue;
    const chosen = options.renderGold(one);
    const rejected = row.output.text;
    const kind = failureKind(chosen, rejected, options.ignoreFields ?? []);
    if (kind === null) continue;
    const [shorter, longer] = [chosen.length, rejected.length].sort((a, b) => a - b) as [number, number];
    if (rejected.trim() === '' || shorter / longer < (options.minLengthRatio ?? 0.8)) {
      droppedByLength++;
      continue;
    }
    const mined: PreferenceRow = {
      id: `mined-${one.id}`,
      kind: 'preference',
      prompt: options.renderPrompt(one),
      chosen,
      rejected,
      tags: [kind],
    };
    failures.push({ row: mined, kind, key: keyOf(one) });
  }
  return { failures, droppedByLength };
}

/** Failures in an order in which kinds take turns: rare kinds come in full before common ones repeat. */
function takingTurns(failures: readonly Failure[], seed: number): Failure[] {
  const queues = new Map<string, Failure[]>();
  for (const failure of new Random(seed, 'mine').shuffle(failures)) {
    const queue = queues.get(failure.kind);
    if (queue === undefined) queues.set(failure.kind, [failure]);
    else queue.push(failure);
  }
  const order = [...queues.keys()].sort();
  const taken: Failure[] = [];
  for (let turn = 0; taken.length < failures.length; turn++)
    taken.push(...order.flatMap((kind) => queues.get(kind)?.[turn] ?? []));
  return taken;
}

function reportOf(
  cases: readonly Case[],
  failures: readonly Failure[],
  droppedByLength: number,
  pairs: readonly Failure[],
  caseCounts: ReadonlyMap<string, number>,
): MineReport {
  const pairCounts = countBy(pairs, ({ key }) => key);
  const mean = (length: (failure: Failure) => number): number =>
    pairs.reduce((sum, pair) => sum + length(pair), 0) / pairs.length;
  return {
    cases: cases.length,
    failures: failures.length + droppedByLength,
    droppedByLength,
    droppedByBalance: failures.length - pairs.length,
    pairs: pairs.length,
    kinds: Object.fromEntries([...countBy(pairs, ({ kind }) => kind)].sort(([a], [b]) => (a < b ? -1 : 1))),
    balance: Object.fromEntries(
      [...caseCounts].map(([key, count]) => [
        key,
        { cases: count / cases.length, pairs: (pairCounts.get(key) ?? 0) / pairs.length },
      ]),
    ),
    meanLength: { chosen: mean(({ row }) => row.chosen.length), rejected: mean(({ row }) => row.rejected.length) },
  };
}

function countBy<T>(items: readonly T[], key: (item: T) => string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const item of items) counts.set(key(item), (counts.get(key(item)) ?? 0) + 1);
  return counts;
}
