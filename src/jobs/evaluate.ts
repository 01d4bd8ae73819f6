import type { Engine, Estimate, Model, Run, Suite } from '../contracts/index.ts';
import { playEpisodes } from '../agent/index.ts';
import { writeFileAtomic } from '../kit/index.ts';
import { estimate } from '../gate/index.ts';
import { comparePairwise, evaluate, evaluateReference, type PairwiseResult } from '../run/index.ts';
import { jobErrors } from './errors.ts';
import {
  checkpointDigest,
  configuredAs,
  type CheckpointInfo,
  findCheckpoint,
  openModel,
  openSuite,
  type Project,
  settingsOf,
} from './project.ts';
import { findRun, withDerived } from './runs.ts';

export interface OpenedCheckpoint {
  readonly info: CheckpointInfo;
  readonly model: Model;
  readonly engine: Engine;
}

/** Metrics of a checkpoint on one suite, recomputed from rows. */
export interface CheckpointMetrics {
  readonly suite: string;
  readonly split: string;
  readonly run: string;
  readonly cases: number;
  readonly errors: number;
  readonly metrics: Readonly<Record<string, { readonly estimate: Estimate; readonly rate: boolean }>>;
}

/** Evaluates a checkpoint on suites, reference behaviours beside it. Finished runs are read, not repeated. */
export async function evaluateCheckpoint(
  project: Project,
  step: {
    readonly checkpoint: string;
    readonly suites: readonly string[];
    readonly split?: string;
    readonly limit?: number;
  },
): Promise<readonly CheckpointMetrics[]> {
  const info = await findCheckpoint(project, step.checkpoint);
  const suites = await Promise.all(step.suites.map((name) => openSuite(project, name, step.split)));
  const { model, engine } = await openModel(project, info);
  try {
    const results: CheckpointMetrics[] = [];
    for (const { suite, split } of suites) {
      const run = await evaluateSuite(project, { info, model, engine }, suite, split, step.limit);
      results.push(metricsOf(run, suite));
    }
    return results;
  } finally {
    await model.close();
  }
}

/** One suite on an opened checkpoint, and the suite's reference behaviours once a split. */
export async function evaluateSuite(
  project: Project,
  opened: OpenedCheckpoint,
  suite: Suite,
  split: string,
  limit?: number,
): Promise<Run> {
  const settings = {
    suite,
    split,
    seed: project.config.seed,
    store: project.runs,
    validators: (id: string) => project.registry.load('validator', id),
    playEpisodes,
    progress: project.progress,
    signal: project.signal,
    ...(limit === undefined ? {} : { limit }),
  };
  await writeFileAtomic(project.at('suites', `${suite.id}.json`), JSON.stringify({ path: suite.path }));
  for (const reference of suite.references) await evaluateReference({ ...settings, reference });
  return evaluate({
    ...settings,
    model: opened.model,
    checkpointId: opened.info.id,
    capabilities: opened.engine.capabilities,
  });
}

/** Lets a judge compare a candidate with what is current, pair by pair. @throws CUPEL_GATE_NO_RUNS */
export async function comparePairs(
  project: Project,
  step: { readonly candidate: string; readonly suite: string; readonly judge: string },
): Promise<PairwiseResult | null> {
  const current = await project.checkpoints.current(project.config.channel);
  if (current === null) return null;
  const { suite, split } = await openSuite(project, step.suite);
  const { suite: compared } = await openSuite(project, suite.pairwise?.of ?? '', split);
  const candidate = await findCheckpoint(project, step.candidate);
  const candidateDigest = await checkpointDigest(candidate);
  const [baselineRun, candidateRun] = await Promise.all(
    [current.checkpoint.digest, candidateDigest].map((digest, side) =>
      findRun(project, {
        checkpointDigest: digest,
        suite: compared,
        split,
        exact: side === 1,
        settings: settingsOf(project, side === 1 ? candidate : configuredAs(project, current.checkpoint.id)),
      }),
    ),
  );
  if (!baselineRun || !candidateRun) {
    throw jobErrors.CUPEL_GATE_NO_RUNS({
      message: `${baselineRun ? step.candidate : current.checkpoint.id} has no finished run of "${compared.id}" on split "${split}"`,
    });
  }
  const judge = await project.registry.load('judge', suite.pairwise?.judge ?? '');
  const { model } = await openModel(project, await findCheckpoint(project, step.judge));
  try {
    return await comparePairwise({
      suite,
      split,
      baselineRun,
      candidateRun,
      judge,
      judgeModel: model,
      store: project.runs,
      progress: project.progress,
      signal: project.signal,
    });
  } finally {
    await model.close();
  }
}

function metricsOf(stored: Run, suite: Suite): CheckpointMetrics {
  const run = withDerived(stored, suite);
  return {
    suite: suite.id,
    split: run.identity.split,
    run: run.identity.id,
    cases: run.rows.length,
    errors: run.rows.filter(({ status }) => status === 'error').length,
    metrics: Object.fromEntries(
      suite.metrics.map((metric) => [
        metric.name,
        { estimate: estimate(metric, run.rows), rate: metric.kind === 'rate' },
      ]),
    ),
  };
}
