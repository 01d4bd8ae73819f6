import { canonicalJson, parseJsonObject } from '../kit/index.ts';

/**
 * How an answer fails, in a few words that group like failures: null where it does not fail; `text` where the right
 * answer is no JSON object; `not json`; else the wrong fields, sorted, e.g. `order_id missing, urgency`. A field is
 * `missing` where a value is right and null or nothing was given, `invented` where null is right and a value was given;
 * a boolean names what was given, e.g. `needs_human as true`: the two mistakes are opposite.
 */
export function failureKind(right: string, given: string, ignoreFields: readonly string[]): string | null {
  const gold = parseJsonObject(right);
  if (gold === null) return right.trim() === given.trim() ? null : 'text';
  const answer = parseJsonObject(given);
  if (answer === null) return 'not json';
  const names = [...new Set([...Object.keys(gold), ...Object.keys(answer)])]
    .filter((name) => !ignoreFields.includes(name))
    .sort();
  const wrong = names.flatMap((name) => fieldFailure(name, gold[name], answer[name]));
  return wrong.length === 0 ? null : wrong.join(', ');
}

function fieldFailure(name: string, right: unknown, given: unknown): string[] {
  if (right !== undefined && given !== undefined && canonicalJson(right) === canonicalJson(given)) return [];
  if (given === undefined || given === null) return [`${name} missing`];
  if (right === undefined || right === null) return [`${name} invented`];
  return [typeof right === 'boolean' ? `${name} as ${String(given)}` : name];
}
