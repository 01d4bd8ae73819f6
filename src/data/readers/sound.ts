import { kitErrors } from '../../kit/index.ts';
import { dataErrors } from '../errors.ts';

/** Deepest nesting of a row. No dataset comes near it, and what compares and writes rows walks them recursively. */
const deepest = 64;

/** @throws CUPEL_FIELD_INVALID for what is nested without end */
export function checkDepth(value: unknown, where: string): void {
  if (!deeperThan(value, deepest)) return;
  throw kitErrors.CUPEL_FIELD_INVALID({ message: `it is nested deeper than ${deepest}`, where });
}

/**
 * Texts of a row have to be whole: half of a character (a lone surrogate), as cutting by length leaves it, becomes another
 * one in every tokenizer. @throws CUPEL_DATA_NOT_TRAINABLE
 */
export function checkTexts(value: unknown, where: string): void {
  const broken = brokenText(value);
  if (broken === undefined) return;
  const at = /\p{Surrogate}/u.exec(broken)?.index ?? 0;
  throw dataErrors.CUPEL_DATA_NOT_TRAINABLE({
    message: `a text holds half of a character, at ${JSON.stringify(broken.slice(Math.max(0, at - 20), at + 1))}`,
    where,
  });
}

function deeperThan(value: unknown, left: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return left === 0 || Object.values(value).some((inner) => deeperThan(inner, left - 1));
}

function brokenText(value: unknown): string | undefined {
  if (typeof value === 'string') return /\p{Surrogate}/u.test(value) ? value : undefined;
  if (typeof value !== 'object' || value === null) return undefined;
  for (const inner of Object.values(value)) {
    const broken = brokenText(inner);
    if (broken !== undefined) return broken;
  }
  return undefined;
}
