import type { Score, ValidatorInput } from '../../../src/contracts/index.ts';
import { isObject, own } from './strict-json.ts';

/** Outcome of one check of one output; null = could not be decided, with the reason. */
export interface CheckResult {
  readonly pass: boolean | null;
  readonly why: string;
}

export const passed: CheckResult = { pass: true, why: '' };
export const failed = (why: string): CheckResult => ({ pass: false, why });
export const undecided = (why: string): CheckResult => ({ pass: null, why });

export function toScore({ pass, why }: CheckResult): Score {
  if (pass === null) return { value: null, explanation: why };
  return pass ? { value: 1 } : { value: 0, explanation: why };
}

/** At most 80 characters of a text, for explanations. */
export function clip(text: string): string {
  return text.length > 80 ? `${text.slice(0, 79)}…` : text;
}

/**
 * Options of a check, completed by a field of the case's target when `targetField` is given.
 * @returns null when the target has no such field: the check does not apply to the case
 */
export function completeOptions(
  input: Pick<ValidatorInput, 'case' | 'with'>,
): Readonly<Record<string, unknown>> | null {
  const field = input.with['targetField'];
  if (typeof field !== 'string') return input.with;
  const given = own(input.case.target, field);
  if (!isObject(given)) return null;
  return { ...input.with, ...given };
}

/** Strings of an option that is a list of strings; anything else is an empty list. */
export function strings(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((item): item is string => typeof item === 'string') : [];
}

export const metricName = { type: 'string', pattern: '^[a-z][a-z0-9_]*$' } as const;
export const stringList = { type: 'array', items: { type: 'string', minLength: 1 } } as const;
export const targetField = {
  type: 'string',
  minLength: 1,
  description: 'Field of `target` that completes these options, case by case.',
} as const;

/** JSON Schema of options: an object that knows no other members. */
export function optionsSchema(
  properties: Readonly<Record<string, unknown>>,
  required: readonly string[] = [],
): Readonly<Record<string, unknown>> {
  return { type: 'object', properties, required, additionalProperties: false };
}
