import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import type { Checkpoint, Engine, Model, ModelSettings, Progress, RunStore, Suite } from '../contracts/index.ts';
import { digestFolder, digestOf, ggufFileOf, isCupelError, kitErrors, nearest, readJson } from '../kit/index.ts';
import { bareConfig, type Config, type EngineOptions, loadConfig, suiteFolder } from '../plugins/config.ts';
import { openRegistry, type Registry } from '../plugins/registry.ts';
import { loadSuite } from '../plugins/suites.ts';
import { openCheckpointStore, openRunStore, type StoredCheckpointStore } from '../store/index.ts';
import { adaptedModel } from './adapted-model.ts';
import { jobErrors } from './errors.ts';
import type { Setting } from './recipe-settings.ts';

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
  /** How it is opened; absent: as the project says. */
  readonly options?: EngineOptions;
  /** Absolute path of the adapter that every request takes. */
  readonly adapter?: string | null;
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
    /** Learning rate of each step, and what was measured on the way, for the plot. */
    readonly learningRates?: readonly number[];
    readonly validation?: TrainingCurve;
    /** Every resolved setting of the recipe and where it came from. */
    readonly settings?: readonly Setting[];
    readonly seed?: number;
    /** Digest of everything that decides the result. */
    readonly key?: string;
    /** Step whose weights these are, where validation chose. */
    readonly bestStep?: number;
    /** Why it is this one of a sweep, in a sentence or two. */
    readonly choice?: string;
  } | null;
}

/** A metric of the validation split over the training. */
export interface TrainingCurve {
  readonly metric: string;
  readonly points: readonly { readonly step: number; readonly value: number | null; readonly best: boolean }[];
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
  return openWith(await loadConfig(options.config, overridesOf(options)), options);
}

/** A project without a config, for a recipe that stands alone: its store is `.cupel` beside the file. Changes nothing. */
export function openBareProject(file: string, options: Omit<ProjectOptions, 'config'>): Promise<Project> {
  return openWith(bareConfig(file, overridesOf(options)), options);
}

function overridesOf({ store, split, threads }: Omit<ProjectOptions, 'config'>) {
  return {
    ...(store === undefined ? {} : { store }),
    ...(split === undefined ? {} : { split }),
    ...(threads === undefined ? {} : { threads }),
  };
}

async function openWith(config: Config, options: Omit<ProjectOptions, 'config'>): Promise<Project> {
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

/** Facts about a checkpoint by id (config or trained into the store) or by path. @throws CUPEL_CHECKPOINT_UNKNOWN */
export async function findCheckpoint(project: Project, id: string): Promise<CheckpointInfo> {
  const configured = Object.hasOwn(project.config.checkpoints, id) ? project.config.checkpoints[id] : undefined;
  if (configured) return { id, ...configured, training: null };
  const file = project.at('candidates', `${id}.json`);
  if (isStoreId(id) && existsSync(file)) return readJson<CheckpointInfo>(file);
  if (existsSync(join(resolve(id), 'config.json')) || (await ggufFileOf(resolve(id))) !== null) {
    const name =
      basename(resolve(id))
        .toLowerCase()
        .replace(/\.gguf$/, '')
        .replace(/[^a-z0-9]+/g, '-')
        .replace(/^-|-$/g, '') || 'checkpoint';
    return { id: name, path: resolve(id), engine: null, role: 'checkpoint', description: '', training: null };
  }
  const known = await checkpointIds(project);
  const near = nearest(id, known);
  throw jobErrors.CUPEL_CHECKPOINT_UNKNOWN({
    message: `no checkpoint is named "${id}"${near === null ? '' : `; did you mean "${near}"?`}`,
    where: project.config.file,
    remedy: `Known: ${known.join(', ') || 'none'}. The path of a checkpoint folder or GGUF file will do as well.`,
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

/**
 * Opens a checkpoint with the engine it names, or the first that accepts it, as the config says. With `plain` it is
 * opened for its weights alone, as for training.
 * @throws CUPEL_CHECKPOINT_NO_ENGINE, CUPEL_CHECKPOINT_ADAPTER
 */
export async function openModel(
  project: Project,
  info: CheckpointInfo,
  { plain = false }: { readonly plain?: boolean } = {},
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
      const options = { threads: project.config.threads, ...(plain ? {} : (info.options ?? project.config.engine)) };
      const adapter = info.adapter ?? null;
      if (adapter === null) return { model: await engine.open(checkpoint, options), engine };
      if (plain || !engine.capabilities.adapters) {
        throw jobErrors.CUPEL_CHECKPOINT_ADAPTER({
          message: plain
            ? `checkpoint "${info.id}" is a base with an adapter; training starts from weights alone`
            : `engine ${id} takes no adapters, and checkpoint "${info.id}" has one`,
          where: adapter,
        });
      }
      const digest = await checkpointDigest(info);
      const model = await engine.open(checkpoint, { ...options, adapters: { adapter } });
      return { model: adaptedModel(model, 'adapter', digest), engine };
    }
  }
  throw jobErrors.CUPEL_CHECKPOINT_NO_ENGINE({
    message: `no engine (${ids.join(', ')}) accepts checkpoint "${info.id}"`,
    where: info.path,
  });
}

/** Content digest of a checkpoint; one with an adapter is what both are together. */
export async function checkpointDigest(info: CheckpointInfo): Promise<string> {
  const adapter = info.adapter ?? null;
  for (const path of adapter === null ? [info.path] : [info.path, adapter]) {
    if (existsSync(path)) continue;
    throw kitErrors.CUPEL_FILE_MISSING({
      message: `${path === adapter ? 'the adapter' : 'the folder'} of checkpoint "${info.id}" does not exist: ${path}`,
      where: path,
    });
  }
  const digest = await digestFolder(info.path);
  return adapter === null ? digest : digestOf({ checkpoint: digest, adapter: await digestFolder(adapter) });
}

/**
 * What runs of a checkpoint record of how it was opened; see `Model.settings`. Runs of other settings are other
 * measurements.
 */
export function settingsOf(project: Project, { options }: Pick<CheckpointInfo, 'options'>): ModelSettings {
  const { weights = 'as-stored', kvCache = 'default' } = options ?? project.config.engine;
  return { weights, kvCache };
}

/** @throws CUPEL_CHECKPOINT_ADAPTER for a base with an adapter, where only what the files hold can be worked on */
export function wholeCheckpoint(info: CheckpointInfo): CheckpointInfo {
  if ((info.adapter ?? null) === null) return info;
  throw jobErrors.CUPEL_CHECKPOINT_ADAPTER({
    message: `checkpoint "${info.id}" is a base with an adapter, and this works on whole checkpoints`,
    where: info.adapter ?? info.path,
  });
}

/** What the config says of a checkpoint that is known by its id alone, such as the current one. */
export function configuredAs(project: Project, id: string): Pick<CheckpointInfo, 'id' | 'options'> {
  const configured = Object.hasOwn(project.config.checkpoints, id) ? project.config.checkpoints[id] : undefined;
  return { id, ...(configured?.options === undefined ? {} : { options: configured.options }) };
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
