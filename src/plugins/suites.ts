import { readdir } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import type {
  Case,
  Decoding,
  Layer,
  MetricDefinition,
  PromptTemplate,
  ReferenceBehaviour,
  Suite,
  SuiteTask,
  ToolDefinition,
} from '../contracts/index.ts';
import {
  type CupelError,
  checkAgainst,
  compileSchema,
  digestOf,
  isCupelError,
  kitErrors,
  nearest,
  readText,
} from '../kit/index.ts';
import { type CaseShapes, parseYaml, readCases, resolveInside, withOptions } from './suite-cases.ts';
import { suiteErrors } from './suite-errors.ts';
import { suiteFileSchema, suiteSchema } from './suite-schema.ts';

export interface LoadSuiteOptions {
  /** Only these splits are read; default: all. */
  readonly splits?: readonly string[];
}

/** What `cupel list` shows of a suite folder; `error` instead of a head where suite.yaml does not hold. */
export interface SuiteSummary {
  readonly id: string;
  readonly path: string;
  readonly head: {
    readonly version: string;
    readonly layer: Layer;
    readonly title: string;
    readonly task: SuiteTask;
    readonly splits: readonly string[];
  } | null;
  readonly error: CupelError | null;
}

interface SuiteFile {
  readonly id: string;
  readonly version: string;
  readonly layer: Layer;
  readonly title: string;
  readonly licence: string;
  readonly task: SuiteTask;
  readonly prompt: PromptTemplate;
  readonly decoding: Decoding;
  readonly validators: readonly { readonly use: string; readonly with?: Readonly<Record<string, unknown>> }[];
  readonly metrics: readonly MetricDefinition[];
  readonly splits?: Readonly<Record<string, string>>;
  readonly references?: readonly ReferenceBehaviour[];
  readonly pairwise?: Suite['pairwise'];
  readonly world?: string;
  readonly tools?: readonly ToolDefinition[];
  readonly maxTurns?: number;
  readonly case?: CaseShapes;
  readonly extends?: string;
  readonly $schema?: string;
}

interface Resolved {
  readonly file: string;
  readonly data: SuiteFile;
  /** Split name to the absolute path of its cases. */
  readonly paths: ReadonlyMap<string, string>;
}

const longestChain = 4;

/**
 * Loads a suite folder: `suite.yaml` (with what it `extends`) and the cases of the splits that are asked for.
 * Everything is checked; nothing is evaluated.
 * @throws coded errors with file:line or field: CUPEL_FILE_*, CUPEL_JSON*_INVALID, CUPEL_FIELD_*, CUPEL_SUITE_*
 */
export async function loadSuite(folder: string, options: LoadSuiteOptions = {}): Promise<Suite> {
  const { file, data, paths } = await resolveSuite(resolve(folder), []);
  const asked = options.splits ?? [...paths.keys()];
  for (const split of asked) {
    if (!paths.has(split)) throw unknownSplit(split, [...paths.keys()], data.id, file);
  }
  const shapes = data.case ?? {};
  const splits: Record<string, readonly Case[]> = {};
  for (const split of asked) {
    const namedBy = `${file}: splits.${split}`;
    splits[split] = await readCases(paths.get(split) ?? '', namedBy, shapes);
    for (const one of splits[split]) checkFields(data, one, `${file}: splits.${split}, case ${one.id}`);
  }
  const body = {
    id: data.id,
    version: data.version,
    layer: data.layer,
    title: data.title,
    licence: data.licence,
    task: data.task,
    prompt: data.prompt,
    decoding: data.decoding,
    validators: data.validators.map(withOptions),
    metrics: data.metrics,
    references: data.references ?? [],
    ...(data.pairwise === undefined ? {} : { pairwise: data.pairwise }),
    ...(data.world === undefined ? {} : { world: data.world }),
    ...(data.tools === undefined ? {} : { tools: data.tools }),
    ...(data.maxTurns === undefined ? {} : { maxTurns: data.maxTurns }),
  };
  return { ...body, splits, digest: digestOf(body), path: resolve(folder) };
}

/** All suite folders directly below a folder, in name order. A suite that does not hold is listed with its error. */
export async function listSuites(root: string): Promise<readonly SuiteSummary[]> {
  let names: string[];
  try {
    names = (await readdir(root)).sort();
  } catch (cause) {
    throw kitErrors.CUPEL_FILE_MISSING({ message: `${root} is not a folder that can be read`, where: root, cause });
  }
  const found: SuiteSummary[] = [];
  for (const name of names) {
    const path = join(root, name);
    if (!(await readdir(path).catch(() => [] as string[])).includes('suite.yaml')) continue;
    try {
      const { data, paths } = await resolveSuite(resolve(path), []);
      const head = {
        version: data.version,
        layer: data.layer,
        title: data.title,
        task: data.task,
        splits: [...paths.keys()],
      };
      found.push({ id: name, path, head, error: null });
    } catch (error) {
      if (!isCupelError(error)) throw error;
      found.push({ id: name, path, head: null, error });
    }
  }
  return found;
}

async function resolveSuite(folder: string, below: readonly string[]): Promise<Resolved> {
  const file = join(folder, 'suite.yaml');
  const own = checkAgainst<Partial<SuiteFile> & { id: string }>(
    fileValidator(),
    parseYaml(await readText(file), file).value,
    file,
  );
  if (own.id !== basename(folder)) {
    throw suiteErrors.CUPEL_SUITE_ID({
      message: `the suite in the folder "${basename(folder)}" calls itself "${own.id}"`,
      where: `${file}: id`,
    });
  }
  const chain = [...below, folder];
  let parent: Resolved | null = null;
  if (own.extends !== undefined) {
    const target = resolve(folder, own.extends);
    if (chain.includes(target) || chain.length >= longestChain) {
      throw suiteErrors.CUPEL_SUITE_EXTENDS({
        message: `${[...chain, target].map((one) => basename(one)).join(' → ')}`,
        where: `${file}: extends`,
      });
    }
    parent = await resolveSuite(target, chain);
  }
  const data = checkAgainst<SuiteFile>(suiteValidator(), merge(parent?.data ?? null, own), file);
  checkSuite(data, file);
  const paths = new Map(
    Object.entries(own.splits ?? {}).map(([split, path]) => [
      split,
      resolveInside(folder, path, `${file}: splits.${split}`),
    ]),
  );
  if (paths.size === 0)
    for (const [split, path] of parent?.paths ?? [['all', join(folder, 'cases')] as const]) paths.set(split, path);
  return { file, data, paths };
}

/** Own members replace inherited ones; `prompt` and `decoding` are merged member by member. */
function merge(parent: SuiteFile | null, own: Partial<SuiteFile>): unknown {
  if (parent === null) return own;
  const { extends: _, splits: inherited, ...rest } = parent;
  return {
    ...rest,
    ...own,
    ...(own.splits === undefined && inherited !== undefined ? { splits: inherited } : {}),
    prompt: { ...parent.prompt, ...own.prompt },
    decoding: { ...parent.decoding, ...own.decoding },
  };
}

function checkSuite(data: SuiteFile, file: string): void {
  const names = new Set<string>();
  for (const [index, { name }] of data.metrics.entries()) {
    if (names.has(name))
      throw suiteErrors.CUPEL_SUITE_DUPLICATE({
        message: `the metric "${name}" is defined twice`,
        where: `${file}: metrics.${index}`,
      });
    names.add(name);
  }
  if ((data.task === 'pairwise') !== (data.pairwise !== undefined)) {
    throw suiteErrors.CUPEL_SUITE_TASK({
      message: `task is "${data.task}" and \`pairwise\` is ${data.pairwise === undefined ? 'missing' : 'there'}`,
      where: `${file}: pairwise`,
    });
  }
  if ((data.task === 'episode') !== (data.world !== undefined && data.tools !== undefined)) {
    throw suiteErrors.CUPEL_SUITE_TASK({
      message: `task is "${data.task}", but only episodes have \`world\` and \`tools\`, and they need both`,
      where: `${file}: world`,
    });
  }
  if (data.decoding.jsonSchema !== undefined) compileSchema(data.decoding.jsonSchema, `${file}: decoding.jsonSchema`);
  const { fewShot = [] } = data.prompt;
  for (const [index, example] of fewShot.entries())
    checkTemplate(data.prompt, example.input, `${file}: prompt.fewShot.${index}`);
}

function checkFields(data: SuiteFile, one: Case, where: string): void {
  checkTemplate(data.prompt, one.input, where);
  if (data.task === 'choice') {
    const options = ownField(one.input, 'options');
    if (
      !Array.isArray(options) ||
      options.length < 2 ||
      !options.every((option) => typeof option === 'string' && option.trim() !== '')
    ) {
      throw suiteErrors.CUPEL_SUITE_TASK({ message: '`input.options` is not a list of at least two texts', where });
    }
  }
  for (const { output, id } of data.references ?? []) {
    if ('inputField' in output && typeof ownField(one.input, output.inputField) !== 'string') {
      throw suiteErrors.CUPEL_SUITE_PROMPT_FIELD({
        message: `the reference "${id}" reads \`input.${output.inputField}\`, which is not a text here`,
        where,
      });
    }
  }
}

function checkTemplate(prompt: PromptTemplate, input: Readonly<Record<string, unknown>>, where: string): void {
  for (const { content } of prompt.messages) {
    for (const [, field = ''] of content.matchAll(/\{\{\s*([A-Za-z_][\w-]*)\s*\}\}/g)) {
      if (ownField(input, field) !== undefined) continue;
      const near = nearest(field, Object.keys(input));
      throw suiteErrors.CUPEL_SUITE_PROMPT_FIELD({
        message: `the prompt reads {{${field}}}, which \`input\` does not have${near === null ? '' : `; did you mean "${near}"?`}`,
        where,
      });
    }
  }
}

function ownField(input: Readonly<Record<string, unknown>>, field: string): unknown {
  return Object.hasOwn(input, field) ? input[field] : undefined;
}

function unknownSplit(split: string, known: readonly string[], id: string, file: string): CupelError {
  const near = nearest(split, known);
  return suiteErrors.CUPEL_SUITE_SPLIT_UNKNOWN({
    message: `the suite "${id}" has no split "${split}"${near === null ? '' : `; did you mean "${near}"?`}`,
    where: `${file}: splits`,
    remedy: `Ask for one of: ${known.join(', ')}.`,
  });
}

let compiledFile: ReturnType<typeof compileSchema> | undefined;
let compiledSuite: ReturnType<typeof compileSchema> | undefined;
const fileValidator = (): ReturnType<typeof compileSchema> =>
  (compiledFile ??= compileSchema(suiteFileSchema, 'suite-schema.ts'));
const suiteValidator = (): ReturnType<typeof compileSchema> =>
  (compiledSuite ??= compileSchema(suiteSchema, 'suite-schema.ts'));
