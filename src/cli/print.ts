import type { Estimate, PromotionEntry, Verdict } from '../contracts/index.ts';
import type { Difference } from '../gate/index.ts';
import type { CheckpointMetrics } from '../jobs/evaluate.ts';
import type { Finding } from '../jobs/doctor.ts';
import type { Listing } from '../jobs/list.ts';
import type { PipelineResult } from '../jobs/pipeline.ts';
import type { SuiteCheckResult } from '../jobs/suite-check.ts';
import type { VerifyResult } from '../jobs/verify.ts';
import { duration } from './progress.ts';
import { table } from './table.ts';

/** Result of a pipeline as a person reads it: steps, metrics of every checkpoint, paths. */
export function pipeline(result: PipelineResult): string {
  const steps = table(
    ['step', 'checkpoint', 'verdict', 'seconds', 'budget'],
    result.steps.map((step) => [
      step.name,
      step.checkpoint ?? '',
      step.verdict ?? '',
      step.skipped ? 'kept' : step.seconds.toFixed(1),
      step.budgetSeconds === null
        ? ''
        : `${step.budgetSeconds.toFixed(0)}${!step.skipped && step.seconds > step.budgetSeconds ? ' over' : ''}`,
    ]),
    new Set([3, 4]),
  );
  const shown = result.table;
  const measured = table(
    ['metric', ...result.checkpoints.map(({ id }) => id)],
    shown.map(({ metric, title, rate }) => [
      title,
      ...result.checkpoints.map(({ metrics: all }) => short(all[metric], rate)),
    ]),
    new Set(result.checkpoints.map((_, index) => index + 1)),
  );
  const verdicts = result.verdicts.map(
    ({ candidate, kind, headline }) =>
      `  ${candidate}: ${headline.startsWith(kind) ? headline : `${kind}: ${headline}`}`,
  );
  return [
    steps,
    '',
    measured,
    '',
    ...verdicts,
    '',
    ...result.scorecards.map((path) => `  scorecard  ${path}`),
    '',
    `  evidence ${result.verified ? 'verified' : 'NOT verified'} · ${duration(result.seconds)}`,
  ].join('\n');
}

/** Result of a pipeline as one JSON object; its fields are a promise to scripts. */
export function pipelineJson(result: PipelineResult): string {
  const { seconds, steps, checkpoints, scorecards, verified } = result;
  return JSON.stringify({
    seconds,
    steps: steps.map((step) => ({
      name: step.name,
      checkpoint: step.checkpoint,
      verdict: step.verdict,
      seconds: step.seconds,
    })),
    checkpoints: checkpoints.map(({ id, role, layers, metrics: all }) => ({
      id,
      role,
      layers,
      metrics: Object.fromEntries(
        Object.entries(all).map(([name, { value, low, high, n, errors }]) => [name, { value, low, high, n, errors }]),
      ),
    })),
    scorecards,
    verified,
  });
}

/** Metrics of one checkpoint. */
export function metrics(runs: readonly CheckpointMetrics[]): string {
  return runs
    .map(({ suite, split, cases, errors, metrics: all }) =>
      [
        `${suite} (${split}, ${cases} cases${errors === 0 ? '' : `, ${errors} without output`})`,
        table(
          ['metric', 'value', '95 % interval', 'n', 'clusters', 'unscored'],
          Object.entries(all).map(([name, estimate]) => [
            name,
            short(estimate.estimate, estimate.rate),
            interval(estimate.estimate, estimate.rate),
            `${estimate.estimate.n}`,
            `${estimate.estimate.clusters}`,
            `${estimate.estimate.unscored}`,
          ]),
          new Set([1, 2, 3, 4, 5]),
        ),
      ].join('\n'),
    )
    .join('\n\n');
}

/** A verdict: the sentence, then a row a rule. */
export function verdict(value: Verdict): string {
  const rows = value.rules.map((rule) => [
    rule.role,
    rule.metric,
    rule.outcome,
    number(rule.baseline),
    number(rule.candidate),
    number(rule.difference),
    rule.pValue === null ? '' : rule.pValue.toPrecision(2),
    `${rule.n}`,
    rule.test,
  ]);
  return `${value.headline}\n\n${table(['role', 'metric', 'outcome', 'baseline', 'candidate', 'difference', 'p', 'n', 'test'], rows, new Set([3, 4, 5, 6, 7]))}`;
}

/** Differences of two checkpoints; positive is better whatever the direction. */
export function differences(found: readonly Difference[]): string {
  const scaled = (value: number | null, kind: Difference['kind'], sign = ''): string =>
    value === null
      ? '–'
      : `${sign !== '' && value >= 0 ? sign : ''}${kind === 'rate' ? (100 * value).toFixed(1) : value.toFixed(2)}`;
  const p = (value: number | null): string => (value === null ? '–' : value < 0.001 ? '<0.001' : value.toFixed(3));
  return table(
    ['metric', 'baseline', 'candidate', 'difference', '90 % interval', 'p better', 'p worse', 'n', 'clusters'],
    found.map((one) => [
      one.metric,
      scaled(one.baseline, one.kind),
      scaled(one.candidate, one.kind),
      scaled(one.difference, one.kind, '+'),
      `${scaled(one.low, one.kind, '+')} to ${scaled(one.high, one.kind, '+')}`,
      p(one.pBetter),
      p(one.pWorse),
      String(one.n),
      String(one.clusters),
    ]),
    new Set([1, 2, 3, 4, 5, 6, 7, 8]),
  );
}

/** A channel's history, oldest first. */
export function history(entries: readonly PromotionEntry[]): string {
  if (entries.length === 0) return 'nothing has been promoted yet';
  return table(
    ['#', 'action', 'checkpoint', 'digest', 'verdict'],
    entries.map((entry) => [
      `${entry.sequence}`,
      entry.action,
      entry.checkpoint.id,
      entry.checkpoint.digest.slice(0, 19),
      entry.verdictDigest?.slice(0, 19) ?? 'adopted',
    ]),
  );
}

/** Checks of the evidence, a line each. */
export function checks(result: VerifyResult): string {
  const lines = result.checks.map(
    ({ name, ok, detail }) => `  ${ok ? 'ok    ' : 'FAILED'}  ${name}${detail === '' ? '' : `: ${detail}`}`,
  );
  return [...lines, '', result.ok ? 'the evidence holds' : 'the evidence does NOT hold'].join('\n');
}

/** Plugins and suites by family. */
export function listing(found: Listing): string {
  const plugins = Object.entries(found.plugins).map(
    ([kind, entries]) =>
      `${kind}s\n${table(
        [],
        entries.map(({ id, summary }) => [`  ${id}`, summary]),
      )}`,
  );
  return [
    ...plugins,
    `suites\n${table(
      [],
      found.suites.map(({ id, layer, title }) => [`  ${id}`, layer, title]),
    )}`,
  ].join('\n\n');
}

/** Problems of suites, a line each. */
export function suiteChecks(results: readonly SuiteCheckResult[]): string {
  return results
    .map(({ suite, cases, examples, problems, warnings }) =>
      [
        `${suite}: ${cases} cases, ${examples} sample outputs, ${problems.length} problems`,
        ...problems.map((problem) => `  problem  ${problem}`),
        ...warnings.map((warning) => `  warning  ${warning}`),
      ].join('\n'),
    )
    .join('\n');
}

/** What the machine has, a line each. */
export function findings(found: readonly Finding[]): string {
  return found.map(({ name, ok, detail }) => `  ${ok ? 'ok     ' : 'missing'}  ${name}: ${detail}`).join('\n');
}

function short(estimate: Estimate | undefined, rate: boolean): string {
  if (estimate === undefined || estimate.value === null) return '–';
  return rate ? `${(100 * estimate.value).toFixed(1)}` : estimate.value.toFixed(2);
}

function interval(estimate: Estimate, rate: boolean): string {
  if (estimate.low === null || estimate.high === null) return '–';
  return rate
    ? `${(100 * estimate.low).toFixed(1)} to ${(100 * estimate.high).toFixed(1)}`
    : `${estimate.low.toFixed(2)} to ${estimate.high.toFixed(2)}`;
}

function number(value: number | null): string {
  return value === null ? '' : value.toFixed(3);
}
