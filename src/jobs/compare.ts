import { compareRuns, type Difference, differences } from '../gate/index.ts';
import { jobErrors } from './errors.ts';
import { collectRuns, policyOf } from './gate.ts';
import { checkpointDigest, findCheckpoint, type Project } from './project.ts';

/** Differences of two checkpoints on all suites that both were run on, case by case. Decides nothing. @throws CUPEL_GATE_NO_RUNS */
export async function compareCheckpoints(
  project: Project,
  baseline: string,
  candidate: string,
): Promise<readonly Difference[]> {
  const policy = await policyOf(project);
  const [left, right] = await Promise.all(
    [baseline, candidate].map(async (id) => {
      const info = await findCheckpoint(project, id);
      return collectRuns(project, info, await checkpointDigest(info), false);
    }),
  );
  const shared = right?.runs.filter(({ suite }) => left?.runs.some((entry) => entry.suite.id === suite.id)) ?? [];
  if (left === undefined || shared.length === 0) {
    throw jobErrors.CUPEL_GATE_NO_RUNS({
      message: `"${baseline}" and "${candidate}" have no suite in common on split "${project.config.split}"`,
      where: project.config.store,
    });
  }
  const comparisons = compareRuns(
    left.runs.map(({ run }) => run),
    shared.map(({ run }) => run),
    shared.map(({ suite }) => suite),
  );
  return differences(comparisons, policy);
}
