import type { Run } from '../contracts/index.ts';
import { canonicalJson } from '../kit/index.ts';

/**
 * What makes two lists of runs unfit for comparison, one sentence each; empty when they are fit: a run that is not
 * complete, two runs of one suite on one side, a case twice in one epoch, suites that differ in digest,
 * split, decoding, validators or epochs, or, where they sample, in seed.
 */
export function evidenceProblems(baselineRuns: readonly Run[] | null, candidateRuns: readonly Run[]): string[] {
  const problems = [...sideProblems('baseline', baselineRuns ?? []), ...sideProblems('candidate', candidateRuns)];
  for (const candidate of candidateRuns) {
    const baseline = baselineRuns?.find((run) => run.identity.suite.id === candidate.identity.suite.id);
    if (baseline === undefined) continue;
    const [before, after] = [baseline.identity, candidate.identity];
    const name = `suite ${after.suite.id}`;
    if (before.suite.digest !== after.suite.digest) {
      problems.push(
        `${name} differs between the runs: baseline ${before.suite.digest}, candidate ${after.suite.digest}`,
      );
    }
    if (before.split !== after.split)
      problems.push(`${name} was run on split ${before.split} for the baseline and ${after.split} for the candidate`);
    for (const part of ['decoding', 'validators', 'epochs'] as const) {
      const [left, right] = comparable(before[part], after[part]).map(canonicalJson);
      if (left !== right) problems.push(`${name} was run with other ${part}: baseline ${left}, candidate ${right}`);
    }
    // Greedy runs do not depend on the seed.
    if (after.decoding['sampling'] !== undefined && before.seed !== after.seed)
      problems.push(`${name} samples and was run with other seeds: baseline ${before.seed}, candidate ${after.seed}`);
  }
  return problems;
}

/** How the engine was set (weights, cache) counts where both engines have such a choice. */
function comparable(left: unknown, right: unknown): unknown[] {
  const sides = [left, right].map((side) => (typeof side === 'object' && side !== null ? { ...side } : side));
  const both = sides.every((side) => typeof side === 'object' && side !== null && 'engine' in side);
  if (!both)
    for (const side of sides) if (typeof side === 'object' && side !== null && 'engine' in side) delete side.engine;
  return sides;
}

function sideProblems(side: string, runs: readonly Run[]): string[] {
  const problems: string[] = [];
  const suites = new Set<string>();
  for (const { identity, complete, rows } of runs) {
    const name = `${side} run ${identity.id} of suite ${identity.suite.id}`;
    if (!complete) problems.push(`${name} is not complete`);
    if (suites.has(identity.suite.id)) problems.push(`${side} has two runs of suite ${identity.suite.id}`);
    suites.add(identity.suite.id);
    const seen = new Set<string>();
    const twice = new Set<string>();
    for (const row of rows) {
      const keys = [`id ${row.case} ${row.epoch}`, `digest ${row.caseDigest} ${row.epoch}`];
      if (keys.some((key) => seen.has(key))) twice.add(row.case);
      for (const key of keys) seen.add(key);
    }
    if (twice.size > 0) {
      const list = [...twice].sort();
      problems.push(
        `${name} has ${list.length} case${list.length === 1 ? '' : 's'} twice: ${list.slice(0, 3).join(', ')}${list.length > 3 ? ', …' : ''}`,
      );
    }
  }
  return problems;
}
