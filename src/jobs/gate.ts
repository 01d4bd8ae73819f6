import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Policy, Run, Suite, Verdict } from '../contracts/index.ts';
import { canonicalJson, codeRoot, isCupelError, kitErrors, readJson, writeFileAtomic } from '../kit/index.ts';
import { compareRuns, decide, evidenceProblems, loadPolicy } from '../gate/index.ts';
import { loadSuite } from '../plugins/suites.ts';
import { runDigest } from '../store/index.ts';
import { jobErrors } from './errors.ts';
import {
  checkpointDigest,
  type CheckpointInfo,
  configuredAs,
  findCheckpoint,
  isStoreId,
  type Project,
  settingsOf,
} from './project.ts';
import { findRun, runsOf, withDerived } from './runs.ts';

/** A checkpoint's name and how it is opened. */
type Known = Pick<CheckpointInfo, 'id' | 'options'>;

/** Finished runs of a checkpoint on the project's split, each with the suite as it now stands. */
export interface CheckpointRuns {
  readonly id: string;
  readonly digest: string;
  /** `run` has the derived metrics, `runDigest` is of the rows as stored. */
  readonly runs: readonly { readonly run: Run; readonly runDigest: string; readonly suite: Suite }[];
}

/**
 * All runs of a checkpoint that count on the project's split (or `all`). Runs of changed suites do not.
 * @param exact see `RunQuery.exact`
 */
export function collectRuns(project: Project, info: Known, digest: string, exact: boolean): Promise<CheckpointRuns> {
  return collect(project, info, digest, [project.config.split, 'all'], exact);
}

/**
 * Runs on splits that a pipeline step names beside the project's own, to be reported and never gated. Their suites are
 * named `suite@split`.
 */
export async function collectOtherSplits(
  project: Project,
  info: Known,
  digest: string,
): Promise<CheckpointRuns['runs']> {
  const splits = project.config.pipeline.flatMap((step) => ('evaluate' in step ? (step.evaluate.split ?? []) : []));
  const found = await Promise.all(
    [...new Set(splits)]
      .filter((split) => split !== project.config.split)
      .map((split) => collect(project, info, digest, [split], true)),
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
  info: Known,
  digest: string,
  splits: readonly string[],
  exact: boolean,
): Promise<CheckpointRuns> {
  const known = (await runsOf(project, digest)).filter(({ split }) => splits.includes(split));
  const runs: CheckpointRuns['runs'][number][] = [];
  for (const name of [...new Set(known.map(({ suite }) => suite.id))].sort()) {
    for (const split of splits.filter((one) => known.some((run) => run.suite.id === name && run.split === one))) {
      const suite = await knownSuite(project, name, split);
      if (suite === null || suite.task === 'pairwise') continue;
      const run = await findRun(project, {
        checkpointDigest: digest,
        suite,
        split,
        exact,
        settings: settingsOf(project, info),
      });
      if (run !== null) {
        runs.push({ run: withDerived(run, suite), runDigest: runDigest(run), suite });
        break;
      }
    }
  }
  const order = ({ suite }: CheckpointRuns['runs'][number]): string => `${suite.layer} ${suite.id}`;
  return { id: info.id, digest, runs: runs.sort((a, b) => (order(a) < order(b) ? -1 : 1)) };
}

/**
 * Compares a candidate with what is current in the project's channel and decides by the policy. The verdict is kept in
 * `<store>/verdicts/<candidate>.json`, canonical JSON.
 * @throws CUPEL_CONFIG_NO_POLICY, CUPEL_GATE_NO_RUNS
 */
export async function gateCandidate(project: Project, candidate: string): Promise<Verdict> {
  const verdict = await judgeCandidate(project, candidate);
  await writeFileAtomic(verdictFile(project, verdict.candidate.checkpoint), canonicalJson(verdict));
  return verdict;
}

/** The verdict on a candidate from the rows and the policy as they now are. Writes nothing. */
export async function judgeCandidate(project: Project, candidate: string): Promise<Verdict> {
  const policy = await policyOf(project);
  const info = await findCheckpoint(project, candidate);
  const digest = await checkpointDigest(info);
  const current = await project.checkpoints.current(project.config.channel);
  const right = await collectRuns(project, info, digest, true);
  if (right.runs.length === 0) {
    throw jobErrors.CUPEL_GATE_NO_RUNS({
      message: `checkpoint "${info.id}" has no finished run on split "${project.config.split}" over all cases as they now stand`,
      where: project.config.store,
      remedy: `Evaluate it: cupel run <suite...> --checkpoint ${info.id}`,
    });
  }
  const left =
    current === null
      ? null
      : await collectRuns(project, configuredAs(project, current.checkpoint.id), current.checkpoint.digest, false);
  if (left !== null && left.runs.length === 0) {
    throw jobErrors.CUPEL_GATE_NO_RUNS({
      message: `the current checkpoint "${left.id}" has no finished run on split "${project.config.split}"`,
      where: project.config.store,
      remedy: `Evaluate it: cupel run <suite...> --checkpoint ${left.id} --split ${project.config.split}`,
    });
  }
  const baselineRuns = left?.runs.map(({ run }) => run) ?? null;
  const candidateRuns = right.runs.map(({ run }) => run);
  const problems = [...evidenceProblems(baselineRuns, candidateRuns), ...(await minedProblems(project, info, right))];
  return decide({
    comparisons:
      problems.length > 0
        ? []
        : compareRuns(
            baselineRuns,
            candidateRuns,
            right.runs.map(({ suite }) => suite),
          ),
    policy,
    baseline: left === null ? null : sideOf(left),
    candidate: sideOf(right),
    problems,
  });
}

/** A checkpoint that was trained on the right answers of the cases it is measured on proves nothing. */
async function minedProblems(project: Project, info: CheckpointInfo, { runs }: CheckpointRuns): Promise<string[]> {
  const problems: string[] = [];
  for (const name of [...(info.training?.data ?? []), ...(info.training?.replay ?? [])]) {
    const file = project.at('datasets', `${name}.source.json`);
    if (!isStoreId(name) || !existsSync(file)) continue;
    const source = await readJson<{ readonly suite: string; readonly split: string }>(file);
    if (runs.some(({ run: { identity } }) => identity.split === source.split && identity.suite.id === source.suite)) {
      problems.push(
        `${info.id} was trained on dataset "${name}", which was mined from suite ${source.suite}, split ${source.split}: the very cases it is measured on`,
      );
    }
  }
  return problems;
}

/** The last verdict on a candidate. @throws CUPEL_FILE_MISSING, CUPEL_JSON_INVALID */
export async function readVerdict(project: Project, candidate: string): Promise<Verdict> {
  const file = verdictFile(project, (await findCheckpoint(project, candidate)).id);
  if (!existsSync(file)) {
    throw kitErrors.CUPEL_FILE_MISSING({
      message: `there is no verdict on "${candidate}"`,
      where: file,
      remedy: `Run: cupel gate ${candidate}`,
    });
  }
  const verdict = await readJson<Partial<Verdict>>(file);
  if (typeof verdict.kind !== 'string' || typeof verdict.headline !== 'string' || verdict.candidate === undefined) {
    throw kitErrors.CUPEL_JSON_INVALID({
      message: 'the file is not a verdict',
      where: file,
      remedy: `Run: cupel gate ${candidate}`,
    });
  }
  return verdict as Verdict;
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

/** A suite that was run, where it was found then, with the cases of one split; null if it is gone or lacks the split. */
async function knownSuite(project: Project, id: string, split: string): Promise<Suite | null> {
  const noted = project.at('suites', `${id}.json`);
  const folder = existsSync(noted)
    ? (await readJson<{ readonly path: string }>(noted)).path
    : join(codeRoot(), 'suites', id);
  try {
    return await loadSuite(folder, { splits: [split] });
  } catch (error) {
    // What is wrong with a suite is told; that it was moved or lost a split only takes its runs out.
    if (isCupelError(error) && (error.code === 'CUPEL_FILE_MISSING' || error.code === 'CUPEL_SUITE_SPLIT_UNKNOWN'))
      return null;
    throw error;
  }
}
