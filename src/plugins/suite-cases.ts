import { readdir, stat } from 'node:fs/promises';
import { extname, isAbsolute, join, normalize, sep } from 'node:path';
import { LineCounter, isSeq, parseDocument } from 'yaml';
import type { Case, ValidatorUse } from '../contracts/index.ts';
import { checkAgainst, compileSchema, digestOf, kitErrors, parseJsonl, readText } from '../kit/index.ts';
import { suiteErrors } from './suite-errors.ts';
import { caseSchema } from './suite-schema.ts';

/** A value of a file with the place it came from, `file:line`. */
interface Placed {
  readonly where: string;
  readonly value: unknown;
}

interface CaseFile {
  readonly id: string;
  readonly input: Readonly<Record<string, unknown>>;
  readonly target?: unknown;
  readonly cluster?: string;
  readonly tags?: readonly string[];
  readonly examples?: { readonly pass?: readonly string[]; readonly fail?: readonly string[] };
  readonly validators?: readonly { readonly use: string; readonly with?: Readonly<Record<string, unknown>> }[];
  readonly twin?: string;
}

export interface CaseShapes {
  readonly input?: unknown;
  readonly target?: unknown;
}

const readable = ['.jsonl', '.yaml', '.yml'];
let validateCase: ReturnType<typeof compileSchema> | undefined;

/**
 * Parses YAML of a file. @throws CUPEL_JSON_INVALID with file:line
 * @returns the value, and the line on which each item starts when the document is a list
 */
export function parseYaml(text: string, file: string): { value: unknown; lines: readonly number[] } {
  const lineCounter = new LineCounter();
  try {
    const document = parseDocument(text, { lineCounter, uniqueKeys: true });
    const [error] = document.errors;
    if (error) {
      throw kitErrors.CUPEL_JSON_INVALID({
        message: `not YAML: ${error.message.split('\n')[0] ?? ''}`,
        where: `${file}:${lineCounter.linePos(error.pos[0]).line}`,
      });
    }
    const items = isSeq(document.contents) ? document.contents.items : [];
    const lines = items.map(
      (item) => lineCounter.linePos((item as unknown as { range?: [number] }).range?.[0] ?? 0).line,
    );
    return { value: document.toJS({ maxAliasCount: 100 }), lines };
  } catch (cause) {
    if (!(cause instanceof RangeError) && !(cause instanceof ReferenceError)) throw cause;
    throw kitErrors.CUPEL_JSON_INVALID({ message: `not YAML that can be read: ${cause.message}`, where: file, cause });
  }
}

/** The absolute path of what suite.yaml names under `splits`. @throws CUPEL_SUITE_PATH */
export function resolveInside(folder: string, path: string, where: string): string {
  const normal = normalize(path);
  if (isAbsolute(path) || normal === '..' || normal.startsWith(`..${sep}`)) {
    throw suiteErrors.CUPEL_SUITE_PATH({ message: `"${path}" leads out of the suite folder`, where });
  }
  return join(folder, normal);
}

/** Cases of one split, from a file or from all files of a folder in name order. Checked; ids unique; twins exist. */
export async function readCases(path: string, namedBy: string, shapes: CaseShapes): Promise<readonly Case[]> {
  const placed = (await Promise.all((await filesOf(path, namedBy)).map((file) => readPlaced(file, namedBy)))).flat();
  if (placed.length === 0)
    throw suiteErrors.CUPEL_SUITE_SPLIT_EMPTY({ message: `${path} has no cases`, where: namedBy });
  const shapeChecks = {
    input: shapes.input === undefined ? null : compileSchema(shapes.input, namedBy),
    target: shapes.target === undefined ? null : compileSchema(shapes.target, namedBy),
  };
  validateCase ??= compileSchema(caseSchema, 'suite-schema.ts');
  const seen = new Map<string, string>();
  const cases: Case[] = [];
  for (const { where, value } of placed) {
    const raw = checkAgainst<CaseFile>(validateCase, value, where);
    if (shapeChecks.input) checkAgainst(shapeChecks.input, raw.input, `${where}: input`);
    if (shapeChecks.target) checkAgainst(shapeChecks.target, raw.target ?? null, `${where}: target`);
    const first = seen.get(raw.id);
    if (first !== undefined) {
      throw suiteErrors.CUPEL_SUITE_DUPLICATE({ message: `the id "${raw.id}" stands at ${first} already`, where });
    }
    seen.set(raw.id, where);
    cases.push(toCase(raw, where));
  }
  checkTwins(cases, seen);
  return cases;
}

async function filesOf(path: string, namedBy: string): Promise<readonly string[]> {
  let isFolder: boolean;
  try {
    isFolder = (await stat(path)).isDirectory();
  } catch (cause) {
    throw kitErrors.CUPEL_FILE_MISSING({ message: `${path} does not exist`, where: namedBy, cause });
  }
  if (!isFolder) return [path];
  const names = (await readdir(path)).filter((file) => readable.includes(extname(file))).sort();
  return names.map((file) => join(path, file));
}

async function readPlaced(file: string, namedBy: string): Promise<readonly Placed[]> {
  if (!readable.includes(extname(file))) {
    throw suiteErrors.CUPEL_SUITE_PATH({
      message: `cases are read from ${readable.join(', ')}, not from ${file}`,
      where: namedBy,
    });
  }
  const text = await readText(file);
  if (extname(file) === '.jsonl') {
    return parseJsonl(text, file).map(({ line, value }) => ({ where: `${file}:${line}`, value }));
  }
  const { value, lines } = parseYaml(text, file);
  if (Array.isArray(value))
    return value.map((item: unknown, index) => ({ where: `${file}:${lines[index] ?? 1}`, value: item }));
  return value === null ? [] : [{ where: `${file}:1`, value }];
}

/** Adds the tag `twin:<id>`, so that rows alone tell which attack goes with which twin. */
function toCase(raw: CaseFile, where: string): Case {
  const tags = [...(raw.tags ?? []), ...(raw.twin === undefined ? [] : [`twin:${raw.twin}`])];
  const body = {
    id: raw.id,
    input: raw.input,
    ...(raw.target === undefined ? {} : { target: raw.target }),
    ...(raw.cluster === undefined ? {} : { cluster: raw.cluster }),
    ...(tags.length === 0 ? {} : { tags }),
    ...(raw.validators === undefined ? {} : { validators: raw.validators.map(withOptions) }),
    ...(raw.twin === undefined ? {} : { twin: raw.twin }),
  };
  try {
    return { ...body, ...(raw.examples === undefined ? {} : { examples: raw.examples }), digest: digestOf(body) };
  } catch (cause) {
    throw kitErrors.CUPEL_FIELD_INVALID({
      message: 'the case is nested too deeply, or holds a value that is not JSON',
      where,
      cause,
    });
  }
}

export function withOptions(use: {
  readonly use: string;
  readonly with?: Readonly<Record<string, unknown>>;
}): ValidatorUse {
  return { use: use.use, with: use.with ?? {} };
}

function checkTwins(cases: readonly Case[], places: ReadonlyMap<string, string>): void {
  const twins = new Map(cases.map((one) => [one.id, one.twin]));
  for (const { id, twin } of cases) {
    if (twin === undefined) continue;
    const where = places.get(id) ?? id;
    if (!twins.has(twin))
      throw suiteErrors.CUPEL_SUITE_TWIN({ message: `"${id}" names the twin "${twin}", which does not exist`, where });
    if (twins.get(twin) !== undefined) {
      throw suiteErrors.CUPEL_SUITE_TWIN({
        message: `the twin "${twin}" of "${id}" has a twin itself, so it is an attack`,
        where,
      });
    }
  }
}
