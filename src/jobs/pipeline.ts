import { existsSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Estimate, Layer, Verdict, VerdictKind } from '../contracts/index.ts';
import {
  digestOf,
  isCupelError,
  nearest,
  readJson,
  readText,
  sha256,
  sha256File,
  writeFileAtomic,
} from '../kit/index.ts';
import { checkPolicyMetrics } from '../gate/index.ts';
import { caseSet } from '../run/index.ts';
import type { Step } from '../plugins/config.ts';
import { openJournal } from '../store/index.ts';
import { jobErrors } from './errors.ts';
import { comparePairs, evaluateCheckpoint } from './evaluate.ts';
import { gateCandidate, policyOf, readVerdict } from './gate.ts';
import { minePairs, miningSplit } from './mine.ts';
import {
  checkpointDigest,
  configuredAs,
  findCheckpoint,
  findDataset,
  openSuite,
  type Project,
  settingsOf,
} from './project.ts';
import { adoptBaseline, promoteCandidate } from './promote.ts';
import { collectMetrics, writeReports } from './report.ts';
import { corruptDataset, trainCheckpoint } from './train.ts';
import { verifyPromoted } from './verify.ts';

export interface PipelineStepResult {
  readonly name: string;
  readonly checkpoint: string | null;
  readonly verdict: VerdictKind | null;
  /** Wall-clock seconds of this step when it was done. */
  readonly seconds: number;
  /** The step's share of the budget. */
  readonly budgetSeconds: number | null;
  /** Done by an earlier attempt and kept. */
  readonly skipped: boolean;
}

export interface PipelineResult {
  readonly seconds: number;
  readonly steps: readonly PipelineStepResult[];
  readonly checkpoints: readonly {
    readonly id: string;
    readonly role: string;
    readonly layers: readonly Layer[];
    readonly metrics: Readonly<Record<string, Estimate>>;
  }[];
  /** Rows of the summary table, in the order of the suites. */
  readonly table: readonly { readonly metric: string; readonly title: string; readonly rate: boolean }[];
  readonly verdicts: readonly { readonly candidate: string; readonly kind: VerdictKind; readonly headline: string }[];
  readonly scorecards: readonly string[];
  readonly verified: boolean;
}

/** What a step leaves in the journal; all but `seconds` is a pure function of the step's input. */
interface StepRecord {
  readonly checkpoint: string | null;
  readonly verdict: VerdictKind | null;
  readonly result: unknown;
  readonly seconds: number;
}

/** `<store>/pipeline.json`: which config an interrupted pipeline belongs to. */
export interface PipelineState {
  readonly version: 1;
  readonly config: string;
  readonly split: string;
  readonly threads: number;
  readonly complete: boolean;
}

/**
 * Runs the steps of the config in order. Finished steps are kept in a journal with a digest of all that came before:
 * after an interruption, or a change of the config, only what is missing or changed is done.
 * @throws CUPEL_CONFIG_NO_PIPELINE, CUPEL_DEMO_EXPECTATION, and what the jobs throw; finished steps stay finished
 */
export async function runPipeline(project: Project, options: { readonly fresh: boolean }): Promise<PipelineResult> {
  const { config } = project;
  if (config.pipeline.length === 0)
    throw jobErrors.CUPEL_CONFIG_NO_PIPELINE({ message: 'there are no steps', where: config.file });
  await checkMetrics(project);
  if (options.fresh) await clear(project);
  await writeState(project, false);
  const journal = await openJournal(project.at('journal.jsonl'));
  const steps: PipelineStepResult[] = [];
  let chain = digestOf({
    seed: config.seed,
    split: config.split,
    policy: config.policy === null ? null : sha256(await readText(config.policy)),
  });
  try {
    for (const [index, step] of config.pipeline.entries()) {
      if (project.signal.aborted) throw interrupted(project, step.name, index);
      chain = digestOf([chain, work(step), await inputsOf(project, step)]);
      const { result: record, skipped } = await journal
        .perform<StepRecord>(step.name, chain, () => timed(project, step), {
          holds: (known) => stillThere(project, step, known),
        })
        .catch((error: unknown) => {
          throw project.signal.aborted && !isCupelError(error) ? interrupted(project, step.name, index, error) : error;
        });
      const { seconds, ...outcome } = record;
      chain = digestOf([chain, outcome]);
      steps.push({
        name: step.name,
        checkpoint: record.checkpoint,
        verdict: record.verdict,
        seconds,
        budgetSeconds: config.budgetSeconds === null || step.share === 0 ? null : config.budgetSeconds * step.share,
        skipped,
      });
      const time = skipped ? 'kept' : `${seconds.toFixed(1)} s`;
      project.progress.note(
        `${String(index + 1).padStart(2)}/${config.pipeline.length}  ${step.name}${record.verdict === null ? '' : `: ${record.verdict}`}  (${time})`,
      );
    }
  } finally {
    await journal.close();
  }
  const result = await summarise(project, steps);
  await writeState(project, true);
  return result;
}

function interrupted(project: Project, step: string, done: number, cause?: unknown): Error {
  const { file, pipeline } = project.config;
  return jobErrors.CUPEL_PIPELINE_INTERRUPTED({
    message: `stopped at step "${step}" (${done} of ${pipeline.length} done)`,
    where: file,
    cause,
  });
}

async function timed(project: Project, step: Step): Promise<StepRecord> {
  const started = performance.now();
  const outcome = await perform(project, step);
  return { ...outcome, seconds: Math.round(performance.now() - started) / 1000 };
}

async function perform(project: Project, step: Step): Promise<Omit<StepRecord, 'seconds'>> {
  if ('evaluate' in step) {
    const metrics = await evaluateCheckpoint(project, step.evaluate);
    return {
      checkpoint: step.evaluate.checkpoint,
      verdict: null,
      result: metrics.map(({ run, suite }) => ({ run, suite })),
    };
  }
  if ('train' in step)
    return { checkpoint: step.train.checkpoint, verdict: null, result: await trainCheckpoint(project, step.train) };
  if ('corrupt' in step)
    return { checkpoint: null, verdict: null, result: await corruptDataset(project, step.corrupt) };
  if ('mine' in step)
    return { checkpoint: step.mine.checkpoint, verdict: null, result: await minePairs(project, step.mine) };
  if ('adopt' in step) {
    await adoptBaseline(project, step.adopt.checkpoint);
    const digest = await checkpointDigest(await findCheckpoint(project, step.adopt.checkpoint));
    return { checkpoint: step.adopt.checkpoint, verdict: null, result: { digest } };
  }
  if ('compare' in step) {
    const result = await comparePairs(project, step.compare);
    return {
      checkpoint: step.compare.candidate,
      verdict: null,
      result: result === null ? null : { run: result.run.identity.id },
    };
  }
  if ('gate' in step) {
    const verdict = await gateCandidate(project, step.gate.candidate);
    const { expect } = step.gate;
    if (expect !== undefined && verdict.kind !== expect) {
      throw jobErrors.CUPEL_DEMO_EXPECTATION({
        message: `step "${step.name}" expects ${expect} and got ${verdict.kind}: ${verdict.headline}`,
        where: project.config.file,
      });
    }
    return { checkpoint: step.gate.candidate, verdict: verdict.kind, result: { digest: digestOf(verdict) } };
  }
  if ('promote' in step) {
    const verdict = await readVerdict(project, step.promote.candidate);
    if (verdict.kind !== 'PROMOTE')
      return { checkpoint: step.promote.candidate, verdict: null, result: { promoted: false } };
    const entry = await promoteCandidate(project, step.promote.candidate);
    return {
      checkpoint: step.promote.candidate,
      verdict: null,
      result: { promoted: true, digest: entry.checkpoint.digest },
    };
  }
  if ('report' in step) {
    const paths = await writeReports(project, step.report.checkpoints);
    return { checkpoint: null, verdict: null, result: { reports: paths.length } };
  }
  const { ok } = await verifyPromoted(project);
  if (!ok)
    throw jobErrors.CUPEL_VERIFY_FAILED({
      message: 'the evidence of the current checkpoint does not hold',
      where: project.config.store,
    });
  return { checkpoint: null, verdict: null, result: { verified: ok } };
}

async function summarise(project: Project, steps: readonly PipelineStepResult[]): Promise<PipelineResult> {
  const named = project.config.pipeline.flatMap((step) => ('report' in step ? step.report.checkpoints : []));
  const ids = named.length > 0 ? named : [...new Set(steps.flatMap(({ checkpoint }) => checkpoint ?? []))];
  const { checkpoints, table } = await collectMetrics(project, [...new Set(ids)]);
  const verdicts: Verdict[] = [];
  for (const step of project.config.pipeline)
    if ('gate' in step) verdicts.push(await readVerdict(project, step.gate.candidate));
  const verifies = project.config.pipeline.some((step) => 'verify' in step);
  return {
    seconds: steps.reduce((sum, { seconds, skipped }) => sum + (skipped ? 0 : seconds), 0),
    steps,
    checkpoints,
    table,
    verdicts: verdicts.map(({ candidate, kind, headline }) => ({ candidate: candidate.checkpoint, kind, headline })),
    scorecards: await findScorecards(project, ids),
    verified: verifies && (await verifyPromoted(project)).ok,
  };
}

/** Whether what a finished step left is still there: a checkpoint or dataset that was removed or changed is made again. */
async function stillThere(project: Project, step: Step, record: StepRecord): Promise<boolean> {
  if ('train' in step) {
    const { digest } = record.result as { digest: string };
    return (
      existsSync(project.at('candidates', `${step.train.checkpoint}.json`)) &&
      (await checkpointDigest(await findCheckpoint(project, step.train.checkpoint))) === digest
    );
  }
  if ('mine' in step) return existsSync(project.at('datasets', `${step.mine.dataset}.jsonl`));
  if ('corrupt' in step) return existsSync(project.at('datasets', `${step.corrupt.dataset}.jsonl`));
  if ('gate' in step) return existsSync(project.at('verdicts', `${step.gate.candidate}.json`));
  return !('report' in step) && !('verify' in step);
}

/** The HTML pages below the reports of these checkpoints. */
async function findScorecards(project: Project, ids: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const id of ids) {
    const names = await readdir(project.at('reports', id)).catch(() => []);
    found.push(
      ...names
        .filter((name) => name.endsWith('.html'))
        .sort()
        .map((name) => project.at('reports', id, name)),
    );
  }
  return found;
}

/**
 * Digests of what a step reads beside the steps before it: data, suites with their cases, configured checkpoints. What
 * earlier steps made is in the chain already.
 */
async function inputsOf(project: Project, step: Step): Promise<unknown> {
  const checkpoint = async (id: string): Promise<string | null> =>
    Object.hasOwn(project.config.checkpoints, id) ? checkpointDigest(await findCheckpoint(project, id)) : null;
  const settings = (id: string): unknown => settingsOf(project, configuredAs(project, id));
  const dataset = async (id: string): Promise<string | null> =>
    Object.hasOwn(project.config.datasets, id) ? sha256File(findDataset(project, id)) : null;
  const suite = async (name: string, split?: string): Promise<unknown> => {
    const opened = await openSuite(project, name, split);
    return { digest: opened.suite.digest, cases: caseSet(opened.suite.splits[opened.split] ?? []) };
  };
  if ('evaluate' in step) {
    const { checkpoint: id, suites, split } = step.evaluate;
    return [await checkpoint(id), settings(id), await Promise.all(suites.map((name) => suite(name, split)))];
  }
  if ('train' in step) {
    const { base, data, replay } = step.train;
    return [
      base === null ? null : await checkpoint(base),
      await Promise.all([...data, ...(replay?.data ?? [])].map(dataset)),
    ];
  }
  if ('corrupt' in step) return dataset(step.corrupt.from);
  if ('mine' in step) {
    const { checkpoint: id, suite: name } = step.mine;
    return [await checkpoint(id), settings(id), await suite(name, miningSplit)];
  }
  if ('compare' in step) {
    const { suite: name, judge } = step.compare;
    return [await suite(name), await checkpoint(judge), settings(judge)];
  }
  if ('adopt' in step) return checkpoint(step.adopt.checkpoint);
  return null;
}

/** Finds what no step could mend, before anything is computed: a policy or contrast that names an unknown metric. */
async function checkMetrics(project: Project): Promise<void> {
  const { pipeline, policy, validityMetric, file } = project.config;
  const names = new Set(pipeline.flatMap((step) => ('evaluate' in step ? step.evaluate.suites : [])));
  const suites = await Promise.all([...names].map(async (name) => (await openSuite(project, name)).suite));
  if (policy !== null && pipeline.some((step) => 'gate' in step)) {
    checkPolicyMetrics(await policyOf(project), suites, policy);
  }
  const known = suites.flatMap(({ id, metrics }) => metrics.map(({ name }) => `${id}/${name}`));
  if (validityMetric !== null && known.length > 0 && !known.includes(validityMetric)) {
    const near = nearest(validityMetric, known);
    throw jobErrors.CUPEL_METRIC_UNKNOWN({
      message: `no suite defines "${validityMetric}"${near === null ? '' : `; did you mean "${near}"?`}`,
      where: `${file}: validityMetric`,
    });
  }
}

/** The step without what changes no result. */
function work(step: Step): unknown {
  const { share: _, ...rest } = step;
  return rest;
}

const pipelineFolders = [
  'runs',
  'candidates',
  'datasets',
  'verdicts',
  'suites',
  'reports',
  'channels',
  'objects',
  'evidence',
  'journal.jsonl',
  'pipeline.json',
];

/** Removes what an earlier pipeline left, and nothing else. Keys stay. */
async function clear(project: Project): Promise<void> {
  if (!existsSync(project.at('pipeline.json'))) return;
  for (const name of pipelineFolders) await rm(project.at(name), { recursive: true, force: true });
}

function writeState(project: Project, complete: boolean): Promise<void> {
  const { file, split, threads } = project.config;
  const state: PipelineState = { version: 1, config: file, split, threads, complete };
  return writeFileAtomic(project.at('pipeline.json'), `${JSON.stringify(state, null, 2)}\n`);
}

/** State of the pipeline of a store; null where none was started. */
export async function readState(store: string): Promise<PipelineState | null> {
  const file = join(store, 'pipeline.json');
  return existsSync(file) ? readJson<PipelineState>(file) : null;
}
