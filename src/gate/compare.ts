import type { MetricDefinition, PairedMetric, Run } from '../contracts/index.ts';
import { appliesToAll, caseValues, type CaseValue } from './case-values.ts';
import { gateErrors } from './errors.ts';
import { evidenceProblems } from './evidence.ts';

/** What a comparison needs to know of a suite. */
export interface ComparedSuite {
  readonly id: string;
  readonly metrics: readonly MetricDefinition[];
}

/**
 * Values of one metric in two runs of one suite, paired by case digest and sorted by case.
 * - A case that only one run has, or that has the metric in one run only, is listed and left out.
 * - A case without output (`status: error`) is a failure of a rate: value 0 where higher is better, 1 where lower is.
 * - An unscored case (null) is left out and counted as missing, and so is one without output under a mean.
 * - A case without output in both runs counts only where the metric applies to every case of the suite: nobody can know
 *   whether a conditional metric would have applied.
 * @param baseline null: no baseline yet. Then `pairs.baseline` repeats the candidate and says nothing.
 */
export function pairMetric(
  suite: string,
  metric: MetricDefinition,
  baseline: Run | null,
  candidate: Run,
): PairedMetric {
  const right = caseValues(metric, candidate.rows);
  const left = baseline === null ? right : caseValues(metric, baseline.rows);
  const universal = appliesToAll(left.values()) && appliesToAll(right.values());
  const pairs: PairedMetric['pairs'][number][] = [];
  const onlyBaseline: string[] = [];
  const onlyCandidate: string[] = [];
  const missing = { baseline: 0, candidate: 0 };
  let cases = 0;
  for (const digest of [...new Set([...left.keys(), ...right.keys()])].sort()) {
    const [before, after] = [left.get(digest), right.get(digest)];
    if (before === undefined || after === undefined || oneSided(before, after)) {
      if (before && before.state !== 'absent') onlyBaseline.push(before.case);
      if (after && after.state !== 'absent') onlyCandidate.push(after.case);
      continue;
    }
    if (before.state === 'absent' || after.state === 'absent') continue;
    if (before.state === 'error' && after.state === 'error' && !universal) continue;
    cases++;
    if (before.missing) missing.baseline++;
    if (after.missing) missing.candidate++;
    if (leftOut(before, metric) || leftOut(after, metric)) continue;
    pairs.push({ case: after.case, cluster: after.cluster, baseline: before.value, candidate: after.value });
  }
  return {
    metric: `${suite}/${metric.name}`,
    direction: metric.direction,
    kind: metric.kind,
    pairs: pairs.sort((a, b) => order(a.case, b.case)),
    cases,
    onlyBaseline: onlyBaseline.sort(order),
    onlyCandidate: onlyCandidate.sort(order),
    missing: baseline === null ? { baseline: 0, candidate: missing.candidate } : missing,
  };
}

/** The metric was measured, or would be, in one run, and the other has an output to which it does not apply. */
function oneSided(before: CaseValue, after: CaseValue): boolean {
  const measured = (value: CaseValue): boolean => value.state === 'scored' || value.state === 'unscored';
  return (measured(before) && after.state === 'absent') || (before.state === 'absent' && measured(after));
}

function leftOut(value: CaseValue, metric: MetricDefinition): boolean {
  return value.state === 'unscored' || (value.state === 'error' && metric.kind === 'mean');
}

/**
 * All metrics of all suites that the candidate was run on, paired with the baseline's runs; sorted by metric path.
 * A suite that the baseline lacks is left out: a policy that asks for it will find the verdict INVALID.
 * @param baselineRuns null: no baseline yet.
 * @throws CUPEL_GATE_EVIDENCE_INVALID for what `evidenceProblems` finds.
 */
export function compareRuns(
  baselineRuns: readonly Run[] | null,
  candidateRuns: readonly Run[],
  suites: readonly ComparedSuite[],
): PairedMetric[] {
  const problems = evidenceProblems(baselineRuns, candidateRuns);
  if (problems.length > 0) throw gateErrors.CUPEL_GATE_EVIDENCE_INVALID({ message: problems.join('; ') });
  const compared: PairedMetric[] = [];
  for (const suite of suites) {
    const candidate = candidateRuns.find((run) => run.identity.suite.id === suite.id);
    const baseline = baselineRuns === null ? null : baselineRuns.find((run) => run.identity.suite.id === suite.id);
    if (candidate === undefined || baseline === undefined) continue;
    for (const metric of suite.metrics) compared.push(pairMetric(suite.id, metric, baseline, candidate));
  }
  return compared.sort((a, b) => order(a.metric, b.metric));
}

function order(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
