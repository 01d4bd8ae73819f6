import { canonicalJson } from '../../../src/kit/index.ts';

/** Whether two JSON values are equal, whatever the order of their keys. Values that JSON cannot hold equal nothing. */
export function same(a: unknown, b: unknown): boolean {
  if (a === undefined || b === undefined) return false;
  try {
    return canonicalJson(a) === canonicalJson(b);
  } catch {
    return false;
  }
}
