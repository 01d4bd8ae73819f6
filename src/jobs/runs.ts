import type { ModelSettings, Run, RunIdentity, Suite } from '../contracts/index.ts';
import { canonicalJson } from '../kit/index.ts';
import { caseSet } from '../run/index.ts';
import { withTwins } from '../stats/attack-matrix.ts';
import type { Project } from './project.ts';

/** Which run is asked for: of these weights, on this suite with the cases of the split loaded. */
export interface RunQuery {
  readonly checkpointDigest: string;
  readonly suite: Suite;
  readonly split: string;
  /**
   * True: only a run over exactly the cases as they now stand will do, not one over fewer, or with labels that were
   * corrected since. False, for a baseline: the run that has most of them; pairing leaves out what only one side has,
   * so that adding a case never breaks the gate.
   */
  readonly exact: boolean;
  /**
   * How the checkpoint is opened now: a run of it opened otherwise measured something else. Runs of engines that have
   * no such choice record none.
   */
  readonly settings: ModelSettings;
}

/**
 * The complete run that fits, or null. Where several do, one of the project's seed comes first, then one of the newest
 * engine; after that the smallest id decides.
 */
export async function findRun(project: Project, query: RunQuery): Promise<Run | null> {
  const cases = query.suite.splits[query.split] ?? [];
  const { digest } = caseSet(cases);
  const identities = (await project.runs.list())
    .filter(({ identity, complete }) => complete && matches(identity, query))
    .map(({ identity }) => identity)
    .sort(byFitness(project.config.seed));
  const same = identities.find((identity) => identity.cases?.digest === digest);
  if (same !== undefined) return project.runs.read(same.id);
  if (query.exact) return null;
  const wanted = new Set(cases.map((one) => one.digest));
  let best: { run: Run; shared: number } | null = null;
  for (const { id } of identities) {
    const run = await project.runs.read(id);
    const shared = new Set(run.rows.map(({ caseDigest }) => caseDigest).filter((one) => wanted.has(one))).size;
    if (shared > (best?.shared ?? 0)) best = { run, shared };
  }
  return best?.run ?? null;
}

/** All complete runs of a checkpoint, by suite and split, as the store lists them. */
export async function runsOf(project: Project, checkpointDigest: string): Promise<readonly RunIdentity[]> {
  return (await project.runs.list())
    .filter(({ identity, complete }) => complete && identity.checkpoint.digest === checkpointDigest)
    .map(({ identity }) => identity);
}

function byFitness(seed: number): (a: RunIdentity, b: RunIdentity) => number {
  const newer = (a: RunIdentity, b: RunIdentity): number => b.engine.localeCompare(a.engine, 'en', { numeric: true });
  return (a, b) => Number(b.seed === seed) - Number(a.seed === seed) || newer(a, b) || (a.id < b.id ? -1 : 1);
}

function matches(identity: RunIdentity, query: RunQuery): boolean {
  return (
    identity.checkpoint.digest === query.checkpointDigest &&
    identity.suite.id === query.suite.id &&
    identity.suite.digest === query.suite.digest &&
    identity.split === query.split &&
    (identity.decoding['engine'] === undefined ||
      canonicalJson(identity.decoding['engine']) === canonicalJson(query.settings))
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
