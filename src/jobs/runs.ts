import type { Run, RunIdentity, Suite } from '../contracts/index.ts';
import { withTwins } from '../stats/attack-matrix.ts';
import type { Project } from './project.ts';

/** Which run is asked for; decoding and digests of validators are the suite's own. */
export interface RunQuery {
  readonly checkpointDigest: string;
  readonly suite: { readonly id: string; readonly digest: string };
  readonly split: string;
}

/** The newest complete run of a checkpoint on a suite as it now stands, or null. Runs of other suite versions do not count. */
export async function findRun(project: Project, query: RunQuery): Promise<Run | null> {
  const found = (await project.runs.list()).filter(({ identity, complete }) => complete && matches(identity, query));
  // Several complete runs can differ by seed or by cases; the largest set of cases, then the id, decides.
  const runs = await Promise.all(found.map(({ identity }) => project.runs.read(identity.id)));
  runs.sort((a, b) => b.rows.length - a.rows.length || (a.identity.id < b.identity.id ? -1 : 1));
  return runs[0] ?? null;
}

/** All complete runs of a checkpoint, by suite and split, as the store lists them. */
export async function runsOf(project: Project, checkpointDigest: string): Promise<readonly RunIdentity[]> {
  return (await project.runs.list())
    .filter(({ identity, complete }) => complete && identity.checkpoint.digest === checkpointDigest)
    .map(({ identity }) => identity);
}

function matches(identity: RunIdentity, query: RunQuery): boolean {
  return (
    identity.checkpoint.digest === query.checkpointDigest &&
    identity.suite.id === query.suite.id &&
    identity.suite.digest === query.suite.digest &&
    identity.split === query.split
  );
}

/** Runs of the suite's reference behaviours (do nothing, obey everything) on a split. */
export async function findReferenceRuns(
  project: Project,
  suite: Pick<Suite, 'id' | 'digest' | 'metrics'>,
  split: string,
): Promise<{ readonly id: string; readonly run: Run }[]> {
  const prefix = 'reference:';
  const found = (await project.runs.list()).filter(
    ({ identity, complete }) =>
      complete &&
      identity.checkpoint.id.startsWith(prefix) &&
      identity.suite.id === suite.id &&
      identity.suite.digest === suite.digest &&
      identity.split === split,
  );
  return Promise.all(
    found.map(async ({ identity }) => ({
      id: identity.checkpoint.id.slice(prefix.length),
      run: withDerived(await project.runs.read(identity.id), suite),
    })),
  );
}

/** A run with the metrics that its suite derives from several rows; the stored rows stay as they are. */
export function withDerived(run: Run, suite: Pick<Suite, 'metrics'>): Run {
  let { rows } = run;
  for (const { name, derived } of suite.metrics) if (derived === 'twin') rows = withTwins(rows, name);
  return { ...run, rows };
}
