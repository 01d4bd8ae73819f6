import type { CaseReport } from '../../src/contracts/index.ts';
import { CHANGE_ORDER } from './words.ts';

/** Places that each kind of change is sure of when there are more cases than places, as a share. */
const SHARES: Readonly<Record<CaseReport['change'], number>> = {
  regressed: 0.5,
  failing: 0.35,
  improved: 0.1,
  passing: 0.05,
};

/**
 * The cases to show, at most `limit`, regressions first. Within a kind of change the caller's order holds, but suites
 * take turns, so that three hundred failing tickets do not hide a single broken attack.
 */
export function selectCases(cases: readonly CaseReport[], limit: number): CaseReport[] {
  const groups = CHANGE_ORDER.map((change) => takeTurns(cases.filter((entry) => entry.change === change)));
  const quota = groups.map((group, index) =>
    Math.min(group.length, Math.floor(limit * SHARES[CHANGE_ORDER[index] as CaseReport['change']])),
  );
  let free = limit - quota.reduce((sum, count) => sum + count, 0);
  groups.forEach((group, index) => {
    const extra = Math.min(free, group.length - (quota[index] as number));
    quota[index] = (quota[index] as number) + extra;
    free -= extra;
  });
  const position = new Map(cases.map((entry, index) => [entry, index]));
  return groups.flatMap((group, index) =>
    group.slice(0, quota[index]).sort((a, b) => (position.get(a) as number) - (position.get(b) as number)),
  );
}

function takeTurns(cases: readonly CaseReport[]): CaseReport[] {
  const bySuite = new Map<string, CaseReport[]>();
  for (const entry of cases) {
    const queue = bySuite.get(entry.suite);
    if (queue === undefined) bySuite.set(entry.suite, [entry]);
    else queue.push(entry);
  }
  const queues = [...bySuite.values()];
  const longest = Math.max(0, ...queues.map((queue) => queue.length));
  return Array.from({ length: longest }, (_, turn) => queues.flatMap((queue) => queue.slice(turn, turn + 1))).flat();
}
