import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import type { Checkpoint, Engine, Model, Progress, RunStore, Suite } from '../contracts/index.ts';
import { digestFolder, isCupelError, kitErrors, nearest, readJson } from '../kit/index.ts';
import { type Config, loadConfig, suiteFolder } from '../plugins/config.ts';
import { openRegistry, type Registry } from '../plugins/registry.ts';
import { loadSuite } from '../plugins/suites.ts';
import { openCheckpointStore, openRunStore, type StoredCheckpointStore } from '../store/index.ts';
import { jobErrors } from './errors.ts';

/** What every job works on: the checked config, the plugins, the stores. */
export interface Project {
  readonly config: Config;
  readonly registry: Registry;
  readonly runs: RunStore;
  readonly checkpoints: StoredCheckpointStore;
  readonly progress: Progress;
  readonly signal: AbortSignal;
  /** Absolute path below the project's store. */
  readonly at: (...parts: string[]) => string;
}

/** What is known of a checkpoint beside its folder; kept as JSON beside trained candidates. */
export interface CheckpointInfo {
  readonly id: string;
  readonly path: string;
  readonly engine: string | null;
  readonly role: string;
  readonly description: string;
  readonly training: {
    readonly trainer: string;
    readonly steps: number;
    readonly trainedTokens: number;
    readonly losses: readonly number[];
    /** Id and digest of the checkpoint that training started from. */
    readonly base: string | null;
    readonly parent: string;
    /** Ids of the datasets and of those for replay, and the digest of the former's rows. */
    readonly data: readonly string[];
    readonly replay: readonly string[];
    readonly dataDigest: string;
  } | null;
}

export interface ProjectOptions {
  readonly config: string;
  readonly store?: string;
  readonly split?: string;
  readonly threads?: number;
  readonly trust?: boolean;
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

/** Opens a project: reads the config, finds plugins, opens the stores. Changes nothing. */
export async function openProject(options: ProjectOptions): Promise<Project> {
  const config = await loadConfig(options.config, {
    ...(options.store === undefined ? {} : { store: options.store }),
    ...(options.split === undefined ? {} : { split: options.split }),
    ...(options.threads === undefined ? {} : { threads: options.threads }),
  });
  return {
    config,
    registry: await openRegistry({ files: config.plugins, trusted: options.trust === true }),
    runs: openRunStore(config.store),
    checkpoints: openCheckpointStore(config.store),
    progress: options.progress,
    signal: options.signal,
    at: (...parts) => join(config.store, ...parts),
  };
}

/** Names in the store become file names: letters, digits and hyphens, nothing that leads elsewhere. */
export function isStoreId(id: string): boolean {
  return /^[a-z0-9][a-z0-9-]{0,63}$/.test(id);
}

/** @throws CUPEL_ID_INVALID unless the name can be that of a new checkpoint or dataset and is not taken by the config */
export function checkNewId(id: string, taken: Readonly<Record<string, unknown>>, where: string): void {
  if (!isStoreId(id)) {
    throw jobErrors.CUPEL_ID_INVALID({
      message: `${JSON.stringify(id)} cannot be the name of a checkpoint or dataset`,
      where,
    });
  }
  if (Object.hasOwn(taken, id)) {
    throw jobErrors.CUPEL_ID_INVALID({
      message: `"${id}" is already the name of something else in the config`,
      where,
      remedy: 'Choose another name for what is made.',
    });
  }
}

/** Facts about a checkpoint by id (config or trained into the store) or by folder path. @throws CUPEL_CHECKPOINT_UNKNOWN */
export async function findCheckpoint(project: Project, id: string): Promise<CheckpointInfo> {
  const configured = Object.hasOwn(project.config.checkpoints, id) ? project.config.checkpoints[id] : undefined;
  if (configured) return { id, ...configured, training: null };
  const file = project.at('candidates', `${id}.json`);
  if (isStoreId(id) && existsSync(file)) return readJson<CheckpointInfo>(file);
  if (existsSync(join(resolve(id), 'config.json'))) {
    const name =
      basename(resolve(id))
        .toLowerCase()
        .replace(/[^a-z0-9]+/g, '-')
        .replace(/^-|-$/g, '') || 'checkpoint';
    return { id: name, path: resolve(id), engine: null, role: 'checkpoint', description: '', training: null };
  }
  const known = await checkpointIds(project);
  const near = nearest(id, known);
  throw jobErrors.CUPEL_CHECKPOINT_UNKNOWN({
    message: `no checkpoint is named "${id}"${near === null ? '' : `; did you mean "${near}"?`}`,
    where: project.config.file,
    remedy: `Known: ${known.join(', ') || 'none'}. The path of a checkpoint folder will do as well.`,
  });
}

/** Ids of all checkpoints of the project: those of the config, then those that were trained. */
export async function checkpointIds(project: Project): Promise<string[]> {
  const folder = project.at('candidates');
  const trained = existsSync(folder) ? (await readdir(folder)).filter((name) => name.endsWith('.json')) : [];
  return [...Object.keys(project.config.checkpoints), ...trained.map((name) => name.slice(0, -5)).sort()];
}

/** Path of a dataset by id (config, or made into the store) or by path. @throws CUPEL_DATASET_UNKNOWN */
export function findDataset(project: Project, id: string): string {
  const configured = Object.hasOwn(project.config.datasets, id) ? project.config.datasets[id] : undefined;
  if (configured !== undefined) return configured;
  const made = project.at('datasets', `${id}.jsonl`);
  if (isStoreId(id) && existsSync(made)) return made;
  if (existsSync(resolve(id))) return resolve(id);
  const near = nearest(id, Object.keys(project.config.datasets));
  throw jobErrors.CUPEL_DATASET_UNKNOWN({
    message: `no dataset is named "${id}"${near === null ? '' : `; did you mean "${near}"?`}`,
    where: project.config.file,
  });
}

/** Opens a checkpoint with the engine it names, or the first that accepts the folder. @throws CUPEL_CHECKPOINT_NO_ENGINE */
export async function openModel(
  project: Project,
  info: CheckpointInfo,
): Promise<{ readonly model: Model; readonly engine: Engine }> {
  const checkpoint: Checkpoint = {
    id: info.id,
    path: info.path,
    ...(info.engine === null ? {} : { engine: info.engine }),
  };
  const ids = info.engine === null ? await project.registry.ids('engine') : [info.engine];
  for (const id of ids) {
    const engine = await project.registry.load('engine', id);
    if (info.engine !== null || (await engine.accepts(checkpoint))) {
      return { model: await engine.open(checkpoint, { threads: project.config.threads }), engine };
    }
  }
  throw jobErrors.CUPEL_CHECKPOINT_NO_ENGINE({
    message: `no engine (${ids.join(', ')}) accepts checkpoint "${info.id}"`,
    where: info.path,
  });
}

/** Content digest of a checkpoint folder. */
export async function checkpointDigest(info: CheckpointInfo): Promise<string> {
  if (!existsSync(info.path)) {
    throw kitErrors.CUPEL_FILE_MISSING({
      message: `the folder of checkpoint "${info.id}" does not exist: ${info.path}`,
      where: info.path,
    });
  }
  return digestFolder(info.path);
}

/** Loads a suite and the split the project asks for, or `all` where a suite has no such split. @throws CUPEL_SUITE_SPLIT_UNKNOWN */
export async function openSuite(
  project: Project,
  name: string,
  split = project.config.split,
): Promise<{ suite: Suite; split: string }> {
  const folder = suiteFolder(name, project.config);
  try {
    return { suite: await loadSuite(folder, { splits: [split] }), split };
  } catch (error) {
    if (!isCupelError(error) || error.code !== 'CUPEL_SUITE_SPLIT_UNKNOWN') throw error;
    try {
      return { suite: await loadSuite(folder, { splits: ['all'] }), split: 'all' };
    } catch {
      throw error;
    }
  }
}
