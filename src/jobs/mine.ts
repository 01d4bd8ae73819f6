import type { Case, Suite } from '../contracts/index.ts';
import { writeFileAtomic, writeJson } from '../kit/index.ts';
import { digestRows, formatTrainingRows, type MineReport, minePreferences } from '../data/index.ts';
import { renderMessages } from '../run/index.ts';
import { evaluateSuite } from './evaluate.ts';
import { checkNewId, findCheckpoint, openModel, openSuite, type Project } from './project.ts';

/** Only failures on this split become training data; test cases never do. */
export const miningSplit = 'validation';

/**
 * Evaluates a checkpoint on the validation split of a suite and writes preference pairs from its failures into
 * `<store>/datasets/<id>.jsonl`.
 */
export async function minePairs(
  project: Project,
  step: {
    readonly dataset: string;
    readonly checkpoint: string;
    readonly suite: string;
    readonly limit: number;
    readonly ignoreFields: readonly string[];
  },
): Promise<{ readonly dataset: string; readonly digest: string; readonly report: MineReport }> {
  checkNewId(step.dataset, project.config.datasets, 'mine.dataset');
  const info = await findCheckpoint(project, step.checkpoint);
  const { suite } = await openSuite(project, step.suite, miningSplit);
  const { model, engine } = await openModel(project, info);
  try {
    const run = await evaluateSuite(project, { info, model, engine }, suite, miningSplit);
    const { rows, report } = minePreferences({
      rows: run.rows,
      cases: suite.splits[miningSplit] ?? [],
      renderPrompt: (one) => promptOf(suite, one),
      renderGold,
      limit: step.limit,
      ignoreFields: step.ignoreFields,
      seed: project.config.seed,
    });
    await writeFileAtomic(project.at('datasets', `${step.dataset}.jsonl`), formatTrainingRows(rows));
    // What the gate must know: answers of these cases are in the data.
    await writeFileAtomic(
      project.at('datasets', `${step.dataset}.source.json`),
      JSON.stringify({ suite: suite.id, split: miningSplit }),
    );
    return { dataset: step.dataset, digest: digestRows(rows), report };
  } finally {
    await model.close();
  }
}

function promptOf(suite: Suite, one: Case) {
  return renderMessages(suite.prompt, one, { fewShot: true }).map(({ role, content }) => ({ role, content }));
}

function renderGold(one: Case): string {
  return typeof one.target === 'string' ? one.target : writeJson(one.target);
}
