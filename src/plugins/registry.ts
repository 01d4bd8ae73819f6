import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename, extname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type {
  Engine,
  Judge,
  PluginHead,
  PluginKind,
  Report,
  Trainer,
  TrainingExporter,
  Validator,
} from '../contracts/index.ts';
import { codeRoot, nearest } from '../kit/index.ts';
import { pluginErrors } from './errors.ts';

interface PluginTypes {
  readonly engine: Engine;
  readonly judge: Judge;
  readonly trainer: Trainer;
  readonly validator: Validator;
  readonly report: Report;
  readonly exporter: TrainingExporter;
}

/** Where each family lives, below the root of the code. A plugin's id is its path below that folder. */
const folders: Readonly<Record<PluginKind, string>> = {
  engine: 'engines',
  judge: 'judges',
  trainer: 'trainers',
  validator: 'suites/validators',
  report: 'reports',
  exporter: 'trainers/exports',
};

const notPlugins = new Set(['lib', 'crates', 'target', 'errors']);

/** Finds plugins by id and imports them when first used: what a run does not use is never loaded. */
export interface Registry {
  /** @throws CUPEL_PLUGIN_UNKNOWN, CUPEL_PLUGIN_LOAD, CUPEL_PLUGIN_INVALID */
  load<K extends PluginKind>(kind: K, id: string): Promise<PluginTypes[K]>;
  /** Ids of a family, sorted. Reads folder names only. */
  ids(kind: PluginKind): Promise<readonly string[]>;
}

export interface RegistryOptions {
  /** Plugin files of the user's config, absolute paths. */
  readonly files?: readonly string[];
  /** Whether the user trusts the folder that the config lies in. */
  readonly trusted?: boolean;
}

/** Opens the registry over the built-in families and the user's own plugin files. */
export async function openRegistry(options: RegistryOptions = {}): Promise<Registry> {
  const own = await loadOwn(options);
  const loaded = new Map<string, Promise<PluginHead<PluginKind>>>();

  const ids = async (kind: PluginKind): Promise<readonly string[]> => {
    const found = new Set(own.filter(({ plugin }) => plugin.kind === kind).map(({ id }) => id));
    for (const entry of await readdir(join(codeRoot(), folders[kind]), { withFileTypes: true })) {
      const id = entry.isDirectory() ? entry.name : entry.name.replace(/\.(ts|js)$/, '');
      if (notPlugins.has(id) || (entry.isFile() && (id === entry.name || id.endsWith('.d')))) continue;
      if (builtIn(kind, id) !== null) found.add(id);
    }
    return [...found].sort();
  };

  const find = async (kind: PluginKind, id: string): Promise<PluginHead<PluginKind>> => {
    const user = own.find((entry) => entry.id === id && entry.plugin.kind === kind);
    if (user) return user.plugin;
    const file = /^[a-z0-9][a-z0-9-]*$/.test(id) ? builtIn(kind, id) : null;
    if (file === null) {
      const known = await ids(kind);
      const near = nearest(id, known);
      throw pluginErrors.CUPEL_PLUGIN_UNKNOWN({
        message: `no ${kind} is named "${id}"${near === null ? '' : `; did you mean "${near}"?`}`,
        remedy: `Known: ${known.join(', ') || 'none'}.`,
      });
    }
    return importPlugin(kind, file);
  };

  return {
    ids,
    load: <K extends PluginKind>(kind: K, id: string) => {
      const key = `${kind}/${id}`;
      const plugin = loaded.get(key) ?? find(kind, id);
      loaded.set(key, plugin);
      return plugin as unknown as Promise<PluginTypes[K]>;
    },
  };
}

function builtIn(kind: PluginKind, id: string): string | null {
  const base = join(codeRoot(), folders[kind], id);
  const candidates = [join(base, 'index.ts'), join(base, 'index.js'), `${base}.ts`, `${base}.js`];
  return candidates.find((file) => existsSync(file)) ?? null;
}

async function importPlugin(kind: PluginKind, file: string): Promise<PluginHead<PluginKind>> {
  let module: { default?: unknown };
  try {
    module = (await import(pathToFileURL(file).href)) as { default?: unknown };
  } catch (cause) {
    throw pluginErrors.CUPEL_PLUGIN_LOAD({
      message: `${kind} ${file} could not be loaded: ${(cause as Error).message}`,
      where: file,
      cause,
    });
  }
  return check(module.default, kind, file);
}

async function loadOwn(options: RegistryOptions): Promise<{ id: string; plugin: PluginHead<PluginKind> }[]> {
  const files = options.files ?? [];
  if (files.length === 0) return [];
  if (options.trusted !== true) {
    throw pluginErrors.CUPEL_PLUGIN_UNTRUSTED({ message: `the config names plugins: ${files.join(', ')}` });
  }
  const { createJiti } = await import('jiti');
  const jiti = createJiti(import.meta.url, { interopDefault: false });
  const own = await Promise.all(
    files.map(async (file) => {
      let module: { default?: unknown };
      try {
        module = await jiti.import<{ default?: unknown }>(resolve(file));
      } catch (cause) {
        throw pluginErrors.CUPEL_PLUGIN_LOAD({ message: `${file}: ${(cause as Error).message}`, where: file, cause });
      }
      return { id: basename(file, extname(file)), plugin: check(module.default, null, file) };
    }),
  );
  for (const [index, { id, plugin }] of own.entries()) {
    if (own.findIndex((other) => other.id === id && other.plugin.kind === plugin.kind) === index) continue;
    throw pluginErrors.CUPEL_PLUGIN_INVALID({
      message: `two plugins of the config would be the ${plugin.kind} "${id}"`,
      where: files[index] as string,
      remedy: 'The id of a plugin is the name of its file: rename one of them.',
    });
  }
  return own;
}

function check(value: unknown, kind: PluginKind | null, file: string): PluginHead<PluginKind> {
  const plugin = value as Partial<PluginHead<PluginKind>> | undefined;
  const known = typeof plugin?.kind === 'string' && Object.hasOwn(folders, plugin.kind);
  if (!plugin || !known || (kind !== null && plugin.kind !== kind)) {
    throw pluginErrors.CUPEL_PLUGIN_INVALID({
      message: `the default export is ${known ? `a ${plugin?.kind}` : 'no plugin'}${kind === null ? '' : `, expected a ${kind}`}`,
      where: file,
    });
  }
  const missing = required[plugin.kind].find(([name, type]) => typeof (plugin as never)[name] !== type);
  if (missing !== undefined) {
    throw pluginErrors.CUPEL_PLUGIN_INVALID({
      message: `the ${plugin.kind} has no ${missing[1]} \`${missing[0]}\``,
      where: file,
    });
  }
  return plugin as PluginHead<PluginKind>;
}

const head = [
  ['version', 'string'],
  ['summary', 'string'],
] as const;

/** Members without which a plugin of a family could not be used at all. */
const required: Readonly<Record<PluginKind, readonly (readonly [name: string, type: string])[]>> = {
  engine: [...head, ['open', 'function'], ['accepts', 'function']],
  judge: [...head, ['judge', 'function']],
  trainer: [...head, ['needs', 'string'], ['options', 'object'], ['plan', 'function'], ['train', 'function']],
  validator: head,
  report: head,
  exporter: head,
};
