import { join } from 'node:path';
import type { Policy, Run, Suite, Verdict } from '../contracts/index.ts';
import { canonicalJson, codeRoot, isCupelError, kitErrors, readText, writeFileAtomic } from '../kit/index.ts';
import { compareRuns, decide, loadPolicy } from '../gate/index.ts';
import { loadSuite } from '../plugins/suites.ts';
import { suiteFolder } from '../plugins/config.ts';
import { runDigest } from '../store/index.ts';
import { jobErrors } from './errors.ts';
import { checkpointDigest, findCheckpoint, type Project } from './project.ts';
import { findRun, runsOf, withDerived } from './runs.ts';

/** Finished runs of a checkpoint on the project's split, each with the suite as it now stands. */
export interface CheckpointRuns {
  readonly id: string;
  readonly digest: string;
  /** `run` has the derived metrics, `runDigest` is of the rows as stored. */
  readonly runs: readonly { readonly run: Run; readonly runDigest: string; readonly suite: Suite }[];
}

/** All runs of a checkpoint that count on the project's split (or `all`). Runs of changed suites do not. */
export function collectRuns(project: Project, id: string, digest: string): Promise<CheckpointRuns> {
  return collect(project, id, digest, [project.config.split, 'all']);
}

/**
 * Runs on splits that a pipeline step names beside the project's own, to be reported and never gated. Their suites are
 * named `suite@split`.
 */
export async function collectOtherSplits(
  project: Project,
  id: string,
  digest: string,
): Promise<CheckpointRuns['runs']> {
  const splits = project.config.pipeline.flatMap((step) => ('evaluate' in step ? (step.evaluate.split ?? []) : []));
  const found = await Promise.all(
    [...new Set(splits)]
      .filter((split) => split !== project.config.split)
      .map((split) => collect(project, id, digest, [split])),
  );
  return found.flatMap(({ runs }) =>
    runs.map(({ suite, ...entry }) => {
      const { split } = entry.run.identity;
      return { ...entry, suite: { ...suite, id: `${suite.id}@${split}`, title: `${suite.title} (split ${split})` } };
    }),
  );
}

async function collect(
  project: Project,
  id: string,
  digest: string,
  splits: readonly string[],
): Promise<CheckpointRuns> {
  const known = await runsOf(project, digest);
  const names = [...new Set(known.filter(({ split }) => splits.includes(split)).map(({ suite }) => suite.id))].sort();
  const runs: CheckpointRuns['runs'][number][] = [];
  for (const name of names) {
    const suite = await findSuite(project, name);
    if (suite === null || suite.task === 'pairwise') continue;
    for (const split of splits) {
      const run = await findRun(project, { checkpointDigest: digest, suite, split });
      if (run !== null) {
        runs.push({ run: withDerived(run, suite), runDigest: runDigest(run), suite });
        break;
      }
    }
  }
  const order = ({ suite }: CheckpointRuns['runs'][number]): string => `${suite.layer} ${suite.id}`;
  return { id, digest, runs: runs.sort((a, b) => (order(a) < order(b) ? -1 : 1)) };
}

/**
 * Compares a candidate with what is current in the project's channel and decides by the policy. The verdict is kept in
 * `<store>/verdicts/<candidate>.json`, canonical JSON.
 * @throws CUPEL_CONFIG_NO_POLICY, CUPEL_GATE_NO_RUNS
 */
export async function gateCandidate(project: Project, candidate: string): Promise<Verdict> {
  const policy = await policyOf(project);
  const digest = await checkpointDigest(await findCheckpoint(project, candidate));
  const current = await project.checkpoints.current(project.config.channel);
  const right = await collectRuns(project, candidate, digest);
  if (right.runs.length === 0) {
    throw jobErrors.CUPEL_GATE_NO_RUNS({
      message: `checkpoint "${candidate}" has no finished run on split "${project.config.split}"`,
      where: project.config.store,
    });
  }
  const left = current === null ? null : await collectRuns(project, current.checkpoint.id, current.checkpoint.digest);
  if (left !== null && left.runs.length === 0) {
    throw jobErrors.CUPEL_GATE_NO_RUNS({
      message: `the current checkpoint "${left.id}" has no finished run on split "${project.config.split}"`,
      where: project.config.store,
      remedy: `Evaluate it: cupel run <suite...> --checkpoint ${left.id} --split ${project.config.split}`,
    });
  }
  const verdict = decide({
    comparisons: compareRuns(
      left?.runs.map(({ run }) => run) ?? null,
      right.runs.map(({ run }) => run),
      right.runs.map(({ suite }) => suite),
    ),
    policy,
    baseline: left === null ? null : sideOf(left),
    candidate: sideOf(right),
  });
  await writeFileAtomic(verdictFile(project, candidate), canonicalJson(verdict));
  return verdict;
}

/** The last verdict on a candidate. @throws CUPEL_FILE_MISSING */
export async function readVerdict(project: Project, candidate: string): Promise<Verdict> {
  const file = verdictFile(project, candidate);
  try {
    return JSON.parse(await readText(file)) as Verdict;
  } catch (cause) {
    if (isCupelError(cause))
      throw kitErrors.CUPEL_FILE_MISSING({
        message: `there is no verdict on "${candidate}"`,
        where: file,
        remedy: `Run: cupel gate ${candidate}`,
        cause,
      });
    throw kitErrors.CUPEL_JSON_INVALID({ message: (cause as Error).message, where: file, cause });
  }
}

/** The project's policy, checked. @throws CUPEL_CONFIG_NO_POLICY */
export async function policyOf(project: Project): Promise<Policy> {
  if (project.config.policy === null)
    throw jobErrors.CUPEL_CONFIG_NO_POLICY({ message: 'the config has no `policy`', where: project.config.file });
  return loadPolicy(project.config.policy);
}

export function verdictFile(project: Project, candidate: string): string {
  return project.at('verdicts', `${candidate}.json`);
}

function sideOf({ id, digest, runs }: CheckpointRuns): Verdict['candidate'] {
  return { checkpoint: id, digest, runs: runs.map(({ run }) => run.identity.id) };
}

/** A suite by id: one that a pipeline step names, or a shipped one. Without cases: only its definition is needed. */
async function findSuite(project: Project, id: string): Promise<Suite | null> {
  const named = project.config.pipeline
    .flatMap((step) => ('evaluate' in step ? step.evaluate.suites : []))
    .find((name) => name === id || name.split('/').pop() === id);
  const folder = named === undefined ? join(codeRoot(), 'suites', id) : suiteFolder(named, project.config);
  try {
    return await loadSuite(folder, { splits: [] });
  } catch (error) {
    if (isCupelError(error)) return null;
    throw error;
  }
}
