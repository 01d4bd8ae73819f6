import type { OpenOptions } from '../contracts/index.ts';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';
import { checkAgainst, codeRoot, compileSchema, readText } from '../kit/index.ts';
import { parseYaml } from './suite-cases.ts';
import configSchema from './config.schema.json' with { type: 'json' };

/** A project's config as checked, with absolute paths. What the fields mean stands in config.schema.json. */
export interface Config {
  readonly project: string;
  readonly file: string;
  readonly store: string;
  readonly channel: string;
  readonly seed: number;
  readonly threads: number;
  /** How checkpoints are opened, unless they say otherwise. */
  readonly engine: EngineOptions;
  readonly split: string;
  readonly policy: string | null;
  /** Report plugins; empty: all. */
  readonly reports: readonly string[];
  readonly validityMetric: string | null;
  readonly plugins: readonly string[];
  readonly notes: readonly string[];
  readonly checkpoints: Readonly<Record<string, CheckpointConfig>>;
  readonly datasets: Readonly<Record<string, string>>;
  /** Wall-clock budget of the pipeline in seconds, shared out by the steps' `share`. */
  readonly budgetSeconds: number | null;
  readonly pipeline: readonly Step[];
}

/** What of an engine's options a config may set. */
export type EngineOptions = Pick<OpenOptions, 'weights' | 'kvCache' | 'kvCacheBytes' | 'maxBatch' | 'stepTokens'>;

export interface CheckpointConfig {
  readonly path: string;
  readonly engine: string | null;
  /** The project's, overridden by the checkpoint's own. */
  readonly options: EngineOptions;
  /** Absolute path of a PEFT folder; null: none. */
  readonly adapter: string | null;
  readonly role: string;
  readonly description: string;
}

/** One step of a pipeline; the same job that the command of that name runs. */
export type Step = { readonly name: string; readonly share: number } & StepWork;

export type StepWork =
  | { readonly evaluate: { readonly checkpoint: string; readonly suites: readonly string[]; readonly split?: string } }
  | { readonly train: TrainStep }
  | {
      readonly corrupt: {
        readonly dataset: string;
        readonly from: string;
        readonly share: number;
        readonly set: Readonly<Record<string, unknown>>;
      };
    }
  | {
      readonly mine: {
        readonly dataset: string;
        readonly checkpoint: string;
        readonly suite: string;
        readonly limit: number;
        readonly ignoreFields: readonly string[];
      };
    }
  | { readonly adopt: { readonly checkpoint: string } }
  | { readonly compare: { readonly candidate: string; readonly suite: string; readonly judge: string } }
  | { readonly gate: { readonly candidate: string; readonly expect?: 'PROMOTE' | 'REJECT' } }
  | { readonly promote: { readonly candidate: string } }
  | { readonly report: { readonly checkpoints: readonly string[] } }
  | { readonly verify: Readonly<Record<string, never>> };

export interface TrainStep {
  readonly checkpoint: string;
  readonly trainer: string;
  readonly base: string | null;
  readonly data: readonly string[];
  readonly replay: { readonly data: readonly string[]; readonly perStep: number } | null;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly role: string;
  readonly description: string;
}

const validate = compileSchema(configSchema, 'config.schema.json');

interface RawConfig {
  readonly project: string;
  readonly store?: string;
  readonly channel?: string;
  readonly seed?: number;
  readonly threads?: number;
  readonly engine?: EngineOptions;
  readonly split?: string;
  readonly policy?: string;
  readonly reports?: readonly string[];
  readonly validityMetric?: string;
  readonly plugins?: readonly string[];
  readonly notes?: readonly string[];
  readonly checkpoints?: Readonly<
    Record<
      string,
      {
        path: string;
        engine?: string | (EngineOptions & { id?: string });
        adapter?: string;
        role?: string;
        description?: string;
      }
    >
  >;
  readonly datasets?: Readonly<Record<string, string>>;
  readonly budgetSeconds?: number;
  readonly pipeline?: readonly (Record<string, unknown> & { name: string; share?: number })[];
}

/** Loads and checks a config file. @throws CUPEL_FILE_MISSING, CUPEL_JSON_INVALID, CUPEL_FIELD_UNKNOWN, CUPEL_FIELD_INVALID */
export async function loadConfig(
  path: string,
  overrides: { readonly store?: string; readonly split?: string; readonly threads?: number } = {},
): Promise<Config> {
  const file = resolve(path);
  const raw = checkAgainst<RawConfig>(validate, parseYaml(await readText(file), file).value, file);
  const from = dirname(file);
  const absolute = (target: string): string => (isAbsolute(target) ? target : join(from, target));
  return {
    project: raw.project,
    file,
    store: overrides.store === undefined ? absolute(raw.store ?? '.cupel') : resolve(overrides.store),
    channel: raw.channel ?? 'main',
    seed: raw.seed ?? 0,
    threads: overrides.threads ?? raw.threads ?? 2,
    engine: raw.engine ?? {},
    split: overrides.split ?? raw.split ?? 'all',
    policy: raw.policy === undefined ? null : absolute(raw.policy),
    reports: raw.reports ?? [],
    validityMetric: raw.validityMetric ?? null,
    plugins: (raw.plugins ?? []).map(absolute),
    notes: raw.notes ?? [],
    checkpoints: mapValues(raw.checkpoints ?? {}, (checkpoint) => {
      const { engine = {}, adapter, role, description } = checkpoint;
      const { id, ...own } = typeof engine === 'string' ? { id: engine } : engine;
      return {
        path: absolute(checkpoint.path),
        engine: id ?? null,
        options: { ...raw.engine, ...own },
        adapter: adapter === undefined ? null : absolute(adapter),
        role: role ?? 'checkpoint',
        description: description ?? '',
      };
    }),
    datasets: mapValues(raw.datasets ?? {}, absolute),
    budgetSeconds: raw.budgetSeconds ?? null,
    pipeline: (raw.pipeline ?? []).map((step) => withDefaults(step)),
  };
}

/** The config of a folder that has none: every default, the store beside the file that is worked on. */
export function bareConfig(
  path: string,
  overrides: { readonly store?: string; readonly split?: string; readonly threads?: number } = {},
): Config {
  const file = resolve(path);
  return {
    project: basename(dirname(file)) || 'project',
    file,
    store: overrides.store === undefined ? join(dirname(file), '.cupel') : resolve(overrides.store),
    channel: 'main',
    seed: 0,
    threads: overrides.threads ?? 2,
    engine: {},
    split: overrides.split ?? 'all',
    policy: null,
    reports: [],
    validityMetric: null,
    plugins: [],
    notes: [],
    checkpoints: {},
    datasets: {},
    budgetSeconds: null,
    pipeline: [],
  };
}

/** Folder of a suite: a path of the user's, or the id of one that is shipped. */
export function suiteFolder(name: string, config: Pick<Config, 'file'>): string {
  if (isAbsolute(name)) return name;
  return name.startsWith('.') ? join(dirname(config.file), name) : join(codeRoot(), 'suites', name);
}

function withDefaults(step: Record<string, unknown> & { name: string; share?: number }): Step {
  const train = step['train'] as
    | (Partial<Omit<TrainStep, 'data' | 'replay'>> & {
        data: string | readonly string[];
        replay?: { data: string | readonly string[]; perStep: number };
      })
    | undefined;
  const full: Record<string, unknown> = { ...step, share: step.share ?? 0 };
  if (train) {
    full['train'] = {
      base: null,
      replay: null,
      parameters: {},
      role: 'candidate',
      description: '',
      ...train,
      data: list(train.data),
      ...(train.replay === undefined ? {} : { replay: { ...train.replay, data: list(train.replay.data) } }),
    };
  }
  const mine = step['mine'] as object | undefined;
  if (mine) full['mine'] = { limit: 400, ignoreFields: [], ...mine };
  return full as unknown as Step;
}

function list(value: string | readonly string[]): readonly string[] {
  return typeof value === 'string' ? [value] : value;
}

function mapValues<T, U>(record: Readonly<Record<string, T>>, change: (value: T) => U): Record<string, U> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, change(value)]));
}
