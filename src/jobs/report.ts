import { join } from 'node:path';
import type {
  CaseReport,
  Estimate,
  Layer,
  LengthControlReport,
  MetricDefinition,
  ModelSettings,
  ReportInput,
  Row,
  Suite,
  SuiteReport,
  Verdict,
} from '../contracts/index.ts';
import { digestOf, isCupelError, packageRoot, readText, writeFileAtomic } from '../kit/index.ts';
import { compareRuns, estimate, naiveGates } from '../gate/index.ts';
import { trainingSplit } from '../plugins/recipe.ts';
import { summarisePairwise } from '../run/index.ts';
import { attackMatrix } from '../stats/attack-matrix.ts';
import { lengthControlledWinRate } from '../stats/index.ts';
import { type CheckpointRuns, collectOtherSplits, collectRuns, policyOf, readVerdict } from './gate.ts';
import {
  checkpointDigest,
  type CheckpointInfo,
  configuredAs,
  findCheckpoint,
  openSuite,
  type Project,
} from './project.ts';
import { findReferenceRuns, runsOf } from './runs.ts';

/** Metrics of several checkpoints, for tables. */
export interface CollectedMetrics {
  readonly checkpoints: readonly {
    readonly id: string;
    readonly role: string;
    readonly layers: readonly Layer[];
    readonly metrics: Readonly<Record<string, Estimate>>;
  }[];
  readonly table: readonly { readonly metric: string; readonly title: string; readonly rate: boolean }[];
}

interface Subject extends CheckpointRuns {
  readonly info: CheckpointInfo;
  /** Runs on further splits: shown, never gated. */
  readonly others: CheckpointRuns['runs'];
}

/** Metrics of checkpoints as `suite/metric`, recomputed from rows, with the rows of a summary table. */
export async function collectMetrics(project: Project, ids: readonly string[]): Promise<CollectedMetrics> {
  const subjects = await Promise.all(ids.map((id) => openSubject(project, id)));
  const titles = new Map<string, { metric: string; title: string; rate: boolean }>();
  for (const { runs, others } of subjects) {
    for (const { suite } of [...runs, ...others]) {
      for (const metric of suite.metrics) {
        if (metric.weight === 'detail') continue;
        const path = `${suite.id}/${metric.name}`;
        titles.set(path, {
          metric: path,
          title: `${suite.layer} ${suite.id}: ${metric.title}`,
          rate: metric.kind === 'rate',
        });
      }
    }
  }
  return {
    checkpoints: subjects.map(({ info, runs, others }) => ({
      id: info.id,
      role: info.role,
      layers: [...new Set(runs.map(({ suite }) => suite.layer))].sort(),
      metrics: metricsOf([...runs, ...others]),
    })),
    table: [...titles.values()].sort((a, b) => (a.title < b.title ? -1 : a.title > b.title ? 1 : 0)),
  };
}

/**
 * Writes reports of checkpoints below `<store>/reports/<id>/`, everything recomputed from rows.
 * @param formats report plugin ids; default: those of the config, else all
 * @returns absolute paths
 */
export async function writeReports(
  project: Project,
  ids: readonly string[],
  formats: readonly string[] = project.config.reports,
): Promise<string[]> {
  const paths: string[] = [];
  const plugins = formats.length === 0 ? await project.registry.ids('report') : formats;
  const { checkpoints: comparison } = await collectMetrics(project, ids);
  const reports = await Promise.all(plugins.map((format) => project.registry.load('report', format)));
  const date = new Date().toISOString().slice(0, 10);
  for (const id of ids) {
    const input = await reportInput(project, id, comparison, date);
    for (const report of reports) {
      for (const { path, content } of await report.render(input)) {
        const file = project.at('reports', input.checkpoint.id, path);
        await writeFileAtomic(file, content);
        paths.push(file);
      }
    }
  }
  return paths;
}

async function reportInput(
  project: Project,
  id: string,
  comparison: CollectedMetrics['checkpoints'],
  date: string,
): Promise<ReportInput> {
  const subject = await openSubject(project, id);
  const verdict = await verdictOn(project, subject);
  const baseline = verdict?.baseline
    ? await collectRuns(project, configuredAs(project, verdict.baseline.checkpoint), verdict.baseline.digest, false)
    : null;
  const { info } = subject;
  return {
    project: project.config.project,
    checkpoint: { id: info.id, role: info.role, digest: subject.digest, description: info.description },
    baselineId: baseline?.id ?? null,
    verdict,
    naiveGates: verdict === null ? [] : await naive(project, baseline, subject),
    suites: await Promise.all(
      [...subject.runs, ...subject.others].map((entry) => suiteReport(project, entry, baseline)),
    ),
    comparison: comparison.map(({ id: other, role, metrics }) => ({ id: other, role, metrics })),
    training: info.training,
    cases: await caseReports(project, subject, baseline),
    lengthControl: await lengthControl(project, subject),
    provenance: await provenance(subject, verdict),
    notes: [...project.config.notes, ...settingNotes(subject), ...choiceNotes(subject)],
    date,
  };
}

/** Says what was measured where it is not the checkpoint as it stands. */
function settingNotes({ runs, info }: Subject): string[] {
  const recorded = runs.map(({ run }) => run.identity.decoding['engine'] as ModelSettings | undefined);
  const changed = recorded.find(
    (settings) => settings !== undefined && (settings.weights !== 'as-stored' || settings.kvCache !== 'default'),
  );
  return [
    ...(changed === undefined
      ? []
      : [
          `Measured with weights ${changed.weights} and a KV cache of type ${changed.kvCache}, chosen as it was opened.`,
        ]),
    ...((info.adapter ?? null) === null
      ? []
      : ['Measured with an adapter beside the weights; its digest is over both.']),
  ];
}

/** Says why a sweep chose this one, and where the cases that chose the weights are those that measure them. */
function choiceNotes({ runs, others, info }: Subject): string[] {
  const { validation, bestStep, choice } = info.training ?? {};
  const notes = choice === undefined ? [] : [`Chosen by a sweep. ${choice}`];
  if (validation === undefined || (bestStep === undefined && choice === undefined)) return notes;
  const suite = validation.metric.split('/')[0] ?? '';
  const measured = [...runs, ...others].some(
    ({ run: { identity } }) => identity.suite.id === suite && identity.split === trainingSplit,
  );
  return measured
    ? [
        ...notes,
        `The weights were chosen by ${validation.metric} on split ${trainingSplit}, and values of suite ${suite} on that split are shown here: they are optimistic.`,
      ]
    : notes;
}

async function openSubject(project: Project, id: string): Promise<Subject> {
  const info = await findCheckpoint(project, id);
  const digest = await checkpointDigest(info);
  return {
    ...(await collectRuns(project, info, digest, true)),
    info,
    others: await collectOtherSplits(project, info, digest),
  };
}

/** The verdict on exactly these weights; one on earlier weights of the same name does not count. */
async function verdictOn(project: Project, subject: Subject): Promise<Verdict | null> {
  try {
    const verdict = await readVerdict(project, subject.id);
    return verdict.candidate.digest === subject.digest ? verdict : null;
  } catch (error) {
    if (isCupelError(error) && error.code === 'CUPEL_FILE_MISSING') return null;
    throw error;
  }
}

async function naive(
  project: Project,
  baseline: CheckpointRuns | null,
  subject: Subject,
): Promise<ReportInput['naiveGates']> {
  const { primary } = await policyOf(project);
  const comparisons = compareRuns(
    baseline?.runs.map(({ run }) => run) ?? null,
    subject.runs.map(({ run }) => run),
    subject.runs.map(({ suite }) => suite),
  );
  return naiveGates(comparisons, {
    primary: primary.metric,
    validity: project.config.validityMetric ?? primary.metric,
  });
}

async function suiteReport(
  project: Project,
  { run, suite }: CheckpointRuns['runs'][number],
  baseline: CheckpointRuns | null,
): Promise<SuiteReport> {
  const before = baseline?.runs.find((entry) => entry.suite.id === suite.id)?.run ?? null;
  const references = await findReferenceRuns(project, suite, run.identity.split);
  const attacks = run.rows.some(({ tags }) => tags.some((tag) => tag.startsWith('owasp:')));
  return {
    id: suite.id,
    title: suite.title,
    layer: suite.layer,
    split: run.identity.split,
    metrics: suite.metrics.map((metric) => ({
      ...metric,
      estimate: estimate(metric, run.rows),
      baseline: before === null ? null : estimate(metric, before.rows),
      references: Object.fromEntries(
        references.map(({ id, run: reference }) => [id, estimate(metric, reference.rows)]),
      ),
    })),
    ...(attacks ? { matrix: attackMatrix(run.rows) } : {}),
    seconds: null,
  };
}

const casesPerSuite = 60;

async function caseReports(project: Project, subject: Subject, baseline: CheckpointRuns | null): Promise<CaseReport[]> {
  const reports: CaseReport[] = [];
  for (const { run, suite } of subject.runs) {
    if (suite.task === 'choice') continue;
    const metric = suite.metrics.find(({ weight }) => weight === 'primary') ?? suite.metrics[0];
    if (metric === undefined) continue;
    const { split } = run.identity;
    const cases = new Map(
      ((await openSuite(project, suite.path, split)).suite.splits[split] ?? []).map((one) => [one.digest, one]),
    );
    const before = new Map(
      baseline?.runs.find((entry) => entry.suite.id === suite.id)?.run.rows.map((row) => [row.caseDigest, row]) ?? [],
    );
    const found = run.rows.map((row): CaseReport => {
      const one = cases.get(row.caseDigest);
      const old = before.get(row.caseDigest) ?? null;
      return {
        suite: suite.id,
        case: row.case,
        change: changeOf(metric, old, row),
        input: inputText(one?.input),
        expected:
          one?.target === undefined ? '' : typeof one.target === 'string' ? one.target : JSON.stringify(one.target),
        baselineOutput: old?.output?.text ?? null,
        output: row.output?.text ?? `(no output: ${row.error?.code ?? 'unknown'})`,
        failed: failedMetrics(suite, row),
        tags: row.tags,
      };
    });
    const rank: Readonly<Record<CaseReport['change'], number>> = { regressed: 0, failing: 1, improved: 2, passing: 3 };
    reports.push(
      ...found.sort((a, b) => rank[a.change] - rank[b.change] || (a.case < b.case ? -1 : 1)).slice(0, casesPerSuite),
    );
  }
  return reports;
}

function changeOf(metric: MetricDefinition, before: Row | null, after: Row): CaseReport['change'] {
  const passes = (row: Row): boolean => failing(metric, row) === false;
  if (before === null) return passes(after) ? 'passing' : 'failing';
  if (passes(before) === passes(after)) return passes(after) ? 'passing' : 'failing';
  return passes(after) ? 'improved' : 'regressed';
}

/** Whether a case fails a metric; null where the metric says nothing of it. */
function failing(metric: MetricDefinition, row: Row): boolean | null {
  if (row.status === 'error') return true;
  const value = row.scores[metric.name]?.value;
  if (value === undefined || value === null) return null;
  return metric.direction === 'higher' ? value < 1 : value > 0;
}

function failedMetrics(suite: Suite, row: Row): CaseReport['failed'] {
  return suite.metrics
    .filter((metric) => metric.kind === 'rate' && failing(metric, row) === true)
    .map(({ name }) => ({ metric: name, explanation: row.scores[name]?.explanation ?? '' }));
}

function inputText(input: Readonly<Record<string, unknown>> | undefined): string {
  if (input === undefined) return '';
  const texts = Object.values(input).filter((value) => typeof value === 'string');
  return texts[0] ?? JSON.stringify(input);
}

/** Layer C: the newest finished comparison of this checkpoint's answers with what was current. */
async function lengthControl(project: Project, subject: Subject): Promise<LengthControlReport | null> {
  const identity = (await runsOf(project, subject.digest)).find(
    ({ suite, decoding }) => suite.layer === 'C' && decoding['judge'] !== undefined,
  );
  if (identity === undefined) return null;
  const run = await project.runs.read(identity.id);
  const { points, inconsistentOrders, missing } = summarisePairwise(run);
  const result = lengthControlledWinRate(points, { seed: project.config.seed, resamples: 1000, level: 0.95 });
  const percent = (
    value: number | null,
    interval: { readonly low: number; readonly high: number } | null,
  ): Estimate => ({
    value,
    low: interval?.low ?? null,
    high: interval?.high ?? null,
    n: result.n,
    clusters: result.clusters,
    errors: run.rows.filter(({ status }) => status === 'error').length,
    unscored: missing,
  });
  return {
    judge: String(identity.decoding['judge']),
    calibrated: false,
    winRate: percent(result.winRate, result.winRateInterval),
    lengthControlled: percent(result.lengthControlled, result.lengthControlledInterval),
    lengthCoefficient: result.lengthCoefficient,
    inconsistentOrders,
    points: points.map(({ lengthDifference, preference }) => ({ lengthDifference, preference })),
  };
}

async function provenance(subject: Subject, verdict: Verdict | null): Promise<ReportInput['provenance']> {
  const { training } = subject.info;
  const card = await readText(join(packageRoot(), 'package.json'));
  return [
    { name: 'checkpoint', digest: subject.digest },
    ...(training === null
      ? []
      : [
          { name: 'parent checkpoint', digest: training.parent },
          { name: 'training data', digest: training.dataDigest },
        ]),
    ...[...subject.runs, ...subject.others].map(({ run, runDigest }) => ({
      name: `run ${run.identity.suite.id} (${run.identity.split})`,
      digest: runDigest,
    })),
    ...(verdict === null
      ? []
      : [
          { name: 'verdict', digest: digestOf(verdict) },
          { name: 'policy', digest: verdict.policyDigest },
        ]),
    { name: 'cupel', digest: (JSON.parse(card) as { version: string }).version },
  ];
}

/** Estimates of all metrics of runs, as `suite/metric`. */
export function metricsOf(runs: CheckpointRuns['runs']): Record<string, Estimate> {
  return Object.fromEntries(
    runs.flatMap(({ run, suite }) =>
      suite.metrics.map((metric) => [`${suite.id}/${metric.name}`, estimate(metric, run.rows)]),
    ),
  );
}
