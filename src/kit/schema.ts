import { Ajv2020, type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js';
import { kitErrors } from './kit-errors.ts';
import type { CupelError } from './errors.ts';

const maxBytes = 256 * 1024;
const maxDepth = 64;

/**
 * Compiles a JSON Schema (2020-12) from data. Size and depth are bounded; `$async` and references to
 * other documents are refused; own properties only, so that `__proto__` and `toString` satisfy nothing.
 * @throws CUPEL_SCHEMA_INVALID
 */
export function compileSchema(schema: unknown, where: string): ValidateFunction {
  check(schema, where);
  const ajv = new Ajv2020({
    strict: false,
    allErrors: true,
    ownProperties: true,
    validateFormats: false,
    verbose: true,
  });
  try {
    return ajv.compile(schema as object);
  } catch (cause) {
    throw kitErrors.CUPEL_SCHEMA_INVALID({
      message: `the schema does not compile: ${(cause as Error).message}`,
      where,
      cause,
    });
  }
}

type PlaceOf = (path: readonly string[], unknownMember?: string) => string;

/**
 * Validates a value that a person wrote. @throws CUPEL_FIELD_UNKNOWN, CUPEL_FIELD_INVALID naming file and path
 * @param placeOf where the value at a path stands, or its unknown member, for `where`; default: the file and the path
 */
export function checkAgainst<T>(
  validate: ValidateFunction,
  value: unknown,
  file: string,
  placeOf: PlaceOf = (parts) => `${file}: ${parts.join('.') || 'the document'}`,
): T {
  if (validate(value)) return value as T;
  throw toError(validate.errors ?? [], value, placeOf, validate.schema);
}

function toError(errors: readonly ErrorObject[], value: unknown, placeOf: PlaceOf, schema: unknown): CupelError {
  const unknown = errors.find(
    (error) => error.keyword === 'additionalProperties' || error.keyword === 'unevaluatedProperties',
  );
  if (unknown) {
    const params = unknown.params as { additionalProperty?: string; unevaluatedProperty?: string };
    const name = params.additionalProperty ?? params.unevaluatedProperty ?? '';
    const known = Object.keys(
      (unknown.parentSchema as { properties?: object } | undefined)?.properties ??
        propertiesAt(schema, unknown.schemaPath),
    );
    const near = nearest(name, known);
    return kitErrors.CUPEL_FIELD_UNKNOWN({
      message: `unknown field "${name}"${near === null ? '' : `; did you mean "${near}"?`}`,
      where: placeOf(partsOf(unknown.instancePath), name),
      remedy:
        near === null
          ? `Remove it. Known fields: ${known.join(', ')}.`
          : `Rename "${name}" to "${near}", or remove it.`,
    });
  }
  const [error] = errors;
  const seen = error ? at(value, error.instancePath) : value;
  const shown = JSON.stringify(seen) ?? 'nothing';
  return kitErrors.CUPEL_FIELD_INVALID({
    message: `${path(error?.instancePath ?? '')} ${error?.message ?? 'is not valid'}${error?.keyword === 'enum' ? `: ${(error.params as { allowedValues: unknown[] }).allowedValues.join(', ')}` : ''} (is ${shown.length > 80 ? shown.slice(0, 80) + '…' : shown})`,
    where: placeOf(partsOf(error?.instancePath ?? '')),
  });
}

function propertiesAt(schema: unknown, schemaPath: string): object {
  let node = schema as Record<string, unknown> | undefined;
  for (const part of schemaPath.split('/').slice(1, -1))
    node = node?.[decodeURIComponent(part).replace(/~1/g, '/').replace(/~0/g, '~')] as
      Record<string, unknown> | undefined;
  return (node?.['properties'] as object | undefined) ?? {};
}

/** The known name within an edit distance of 2 (or a third of the length), nearest first. */
export function nearest(name: string, known: readonly string[]): string | null {
  const limit = Math.max(2, Math.floor(name.length / 3));
  const ranked = known
    .map((candidate) => ({ candidate, distance: editDistance(name.toLowerCase(), candidate.toLowerCase()) }))
    .filter(({ distance }) => distance <= limit)
    .sort((a, b) => a.distance - b.distance);
  return ranked[0]?.candidate ?? null;
}

/** Edits of one character, neighbours that changed places being one edit too (optimal string alignment). */
export function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = (previous[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swap = swapped ? (before[j - 2] as number) + 1 : Infinity;
      current.push(Math.min(substitution, swap, (previous[j] as number) + 1, (current[j - 1] as number) + 1));
    }
    [before, previous] = [previous, current];
  }
  return previous[b.length] as number;
}

function path(instancePath: string): string {
  return instancePath === '' ? 'the document' : instancePath.slice(1).replaceAll('/', '.');
}

function at(value: unknown, instancePath: string): unknown {
  let node = value;
  for (const part of partsOf(instancePath)) node = (node as Record<string, unknown> | undefined)?.[part];
  return node;
}

function partsOf(instancePath: string): string[] {
  return instancePath
    .split('/')
    .slice(1)
    .map((part) => part.replace(/~1/g, '/').replace(/~0/g, '~'));
}

function check(schema: unknown, where: string): void {
  const text = JSON.stringify(schema) ?? '';
  if (text.length > maxBytes)
    throw kitErrors.CUPEL_SCHEMA_INVALID({
      message: `the schema has ${text.length} bytes, more than ${maxBytes}`,
      where,
    });
  const walk = (node: unknown, depth: number, here: string): void => {
    if (depth > maxDepth)
      throw kitErrors.CUPEL_SCHEMA_INVALID({
        message: `the schema is nested deeper than ${maxDepth}`,
        where: `${where}: ${here}`,
      });
    if (typeof node !== 'object' || node === null) return;
    for (const [key, child] of Object.entries(node)) {
      if (key === '$async')
        throw kitErrors.CUPEL_SCHEMA_INVALID({
          message: '$async is refused: it would make every value pass',
          where: `${where}: ${here}`,
        });
      if (key === '$ref' && typeof child === 'string' && !child.startsWith('#')) {
        throw kitErrors.CUPEL_SCHEMA_INVALID({
          message: `reference to another document: ${child}`,
          where: `${where}: ${here}`,
        });
      }
      walk(child, depth + 1, `${here}/${key}`);
    }
  };
  walk(schema, 0, '#');
}
