import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import type { Model, Progress, TrainingRecord, TrainingRow, VocabularyOptions } from '../contracts/index.ts';
import { digestRows, readTrainingRows } from '../data/index.ts';
import { digestFolder, digestOf, readJson, writeFileAtomic } from '../kit/index.ts';
import { openRegistry } from '../plugins/registry.ts';
import { type ExtensionReport, extendVocabulary } from '../train/index.ts';
import { mergeJobErrors } from './merge-errors.ts';
import { checkNewId, type CheckpointInfo, checkpointDigest, openModel, type Project } from './project.ts';

export interface ExtendStep {
  /** Absolute path of the checkpoint. */
  readonly base: string;
  /** Paths of files of rows: the text of every row counts, whoever speaks. */
  readonly data: readonly string[];
  readonly options: VocabularyOptions;
  readonly output: string;
  readonly threads?: number;
  readonly progress: Progress;
}

export type ExtendResult = ExtensionReport & { readonly path: string; readonly digest: string };

/**
 * Writes a checkpoint with tokens of its own for what a corpus often says. Nothing that exists is overwritten.
 * @throws CUPEL_VOCABULARY_*, and the errors of a broken checkpoint or file of rows
 */
export async function extendCheckpoint(step: ExtendStep): Promise<ExtendResult> {
  const rows = (await Promise.all(step.data.map((file) => readTrainingRows(file)))).flat();
  const output = resolve(step.output);
  const open = (path: string): Promise<Model> => openPath(path, step.threads);
  const model = await open(step.base);
  const task = step.progress.begin(`extend ${basename(output)}`, 1, 'checkpoint');
  try {
    const report = await extendVocabulary({ base: step.base, model, rows, options: step.options, output, open });
    task.advance();
    return { path: output, digest: await digestFolder(output), ...report };
  } finally {
    task.end();
    await model.close();
  }
}

/**
 * The base of a training whose parameters ask for new tokens: a checkpoint of its own, `<id>-base` among the candidates,
 * so that the chain from base to result has no gap. One that was made from the same base, rows and options is taken again.
 */
export async function extendedBase(
  project: Project,
  base: CheckpointInfo,
  step: {
    readonly id: string;
    readonly options: VocabularyOptions;
    readonly rows: readonly TrainingRow[];
    /** Ids of the datasets. */
    readonly data: readonly string[];
  },
): Promise<CheckpointInfo> {
  const id = `${step.id}-base`;
  const folder = project.at('candidates', id);
  const info: CheckpointInfo = {
    id,
    path: folder,
    engine: null,
    role: 'base',
    description: `${base.id} with new tokens`,
    training: {
      trainer,
      steps: 0,
      trainedTokens: 0,
      losses: [],
      base: base.id,
      parent: await checkpointDigest(base),
      data: step.data,
      replay: [],
      dataDigest: digestRows(step.rows),
    },
  };
  const file = project.at('candidates', `${id}.json`);
  checkNewId(id, project.config.checkpoints, `the base with new tokens of "${step.id}"`);
  if (existsSync(folder) && ((await madeBy(folder)) !== trainer || resolve(base.path) === resolve(folder))) {
    throw mergeJobErrors.CUPEL_MERGE_TARGET({
      message: `"${id}" would be the base with new tokens, and is a checkpoint of another kind`,
      where: folder,
      remedy: 'Choose another name for what is trained.',
    });
  }
  if (await isMadeFrom(folder, info, step)) {
    if (!existsSync(file)) await writeFileAtomic(file, `${JSON.stringify(info, null, 2)}\n`);
    return info;
  }
  await rm(folder, { recursive: true, force: true });
  const plain = async (checkpoint: CheckpointInfo): Promise<Model> =>
    (await openModel(project, checkpoint, { plain: true })).model;
  const model = await plain(base);
  try {
    const { rows, options } = step;
    const open = (path: string): Promise<Model> => plain({ ...info, path, training: null });
    const report = await extendVocabulary({ base: base.path, model, rows, options, output: folder, open });
    const { before, after, tokens, vocabularySize } = report;
    project.progress.note(
      `  ${tokens.length} new tokens (${vocabularySize.before} to ${vocabularySize.after} rows): ` +
        `${perWord(before)} to ${perWord(after)} tokens a word${report.heldOut ? ' on text kept apart' : ''}`,
    );
  } finally {
    await model.close();
  }
  await writeFileAtomic(file, `${JSON.stringify(info, null, 2)}\n`);
  return info;
}

/** Tokens a word, as a person reads it. */
export function perWord({ tokens, words }: ExtensionReport['before']): string {
  return (tokens / Math.max(1, words)).toFixed(3);
}

const trainer = 'extend-vocabulary@1.0.0';

/** What wrote a checkpoint, by the record in its folder; null: it has none. */
async function madeBy(folder: string): Promise<string | null> {
  const file = join(folder, 'cupel_run.json');
  return existsSync(file) ? ((await readJson<Partial<TrainingRecord> | null>(file))?.trainer ?? null) : null;
}

async function isMadeFrom(
  folder: string,
  { training }: CheckpointInfo,
  { options, rows }: { readonly options: VocabularyOptions; readonly rows: readonly TrainingRow[] },
): Promise<boolean> {
  const file = join(folder, 'cupel_run.json');
  if (!existsSync(file)) return false;
  const record = await readJson<TrainingRecord>(file);
  return (
    record.parent === training?.parent &&
    record.recipeDigest === digestOf(options) &&
    record.dataDigest === digestOf({ data: rows, replay: [] })
  );
}

async function openPath(path: string, threads: number | undefined): Promise<Model> {
  const registry = await openRegistry();
  const checkpoint = { id: basename(path), path };
  for (const id of await registry.ids('engine')) {
    const engine = await registry.load('engine', id);
    if (engine.capabilities.learn && (await engine.accepts(checkpoint))) {
      return engine.open(checkpoint, threads === undefined ? {} : { threads });
    }
  }
  throw mergeJobErrors.CUPEL_MERGE_NO_ENGINE({
    message: existsSync(path) ? 'no engine accepts this base' : `${path} does not exist`,
    where: path,
  });
}
