import { resolve } from 'node:path';
import type { TrainEvent, TrainingRow } from '../contracts/index.ts';
import { isCupelError } from '../kit/index.ts';
import { type HeldOutInput, ignoredColumns, readTrainingData, reviewRows } from '../data/index.ts';
import { loadPolicy, policyMetrics } from '../gate/index.ts';
import { suiteFolder } from '../plugins/config.ts';
import { loadSuite } from '../plugins/suites.ts';
import { renderMessages } from '../run/index.ts';
import { findDataset, type Project } from './project.ts';

/** Training rows of datasets by id or path, one after another. Says which formats they were read as, where asked. */
export async function readRows(
  project: Project,
  names: readonly string[],
  say: (text: string) => void = () => {},
): Promise<TrainingRow[]> {
  const found = await Promise.all(names.map((name) => readTrainingData(findDataset(project, name))));
  for (const [index, data] of found.entries()) {
    const read = Object.entries(data.formats).map(([format, count]) => `${count} as ${format}`);
    say(`  ${names[index] ?? ''}: rows read ${read.join(', ')}`);
    const unread = ignoredColumns(data);
    if (unread !== null) say(`  CUPEL_DATA_COLUMNS_IGNORED: ${names[index] ?? ''}: ${unread}`);
  }
  return found.flatMap(({ rows }) => rows);
}

/** What is trained on, and the suite that training itself measures by. */
interface ReviewedData {
  readonly rows: readonly TrainingRow[];
  readonly replay?: { readonly rows: readonly TrainingRow[] } | null;
  readonly chosen?: { readonly folder: string } | null;
}

/**
 * Looks over rows before they are trained on: duplicates, conflicts, stray prose, and what the suites of the gate's
 * policy, and that of the recipe, ask. Replayed rows are trained on too: they are held against the suites alone.
 * @throws CUPEL_DATA_HELD_OUT where a row asks what a test case asks
 */
export async function reviewTrainingData(
  project: Project,
  { rows, replay, chosen }: ReviewedData,
  sink: (event: TrainEvent) => void,
): Promise<void> {
  const inputs = await heldOutInputs(project, chosen ?? null);
  reviewRows(rows, inputs, sink);
  if (!replay) return;
  reviewRows(replay.rows, inputs, (event) => {
    if (event.code === 'CUPEL_DATA_HELD_OUT') sink(event);
  });
}

/** Inputs of the validation and test cases of the suites that the policy names, and of the recipe's own. */
async function heldOutInputs(project: Project, chosen: { readonly folder: string } | null): Promise<HeldOutInput[]> {
  const { policy } = project.config;
  const loaded = policy === null ? null : await loadPolicy(policy).catch(() => null);
  const named = loaded === null ? [] : policyMetrics(loaded).map(([, metric]) => metric.split('/')[0] ?? '');
  const folders = named.map((suite) => resolve(suiteFolder(suite, project.config)));
  const all = [...new Set([...folders, ...(chosen === null ? [] : [resolve(chosen.folder)])])];
  const found = await Promise.all(
    all.flatMap((folder) => (['validation', 'test'] as const).map((split) => inputsOf(folder, split))),
  );
  return found.flat();
}

async function inputsOf(folder: string, split: 'validation' | 'test'): Promise<HeldOutInput[]> {
  try {
    const suite = await loadSuite(folder, { splits: [split] });
    return (suite.splits[split] ?? []).flatMap((one) => {
      const asked = renderMessages(suite.prompt, one, { fewShot: false }).findLast(({ role }) => role === 'user');
      return asked === undefined ? [] : [{ suite: suite.id, case: one.id, split, text: asked.content }];
    });
  } catch (error) {
    // A suite that cannot be read, or has no such split, is for the evaluation to refuse.
    if (isCupelError(error)) return [];
    throw error;
  }
}
