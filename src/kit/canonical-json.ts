import { kitErrors } from './kit-errors.ts';

/**
 * Canonical JSON: keys sorted by UTF-16 code unit, no white space, numbers as ECMAScript prints them
 * (RFC 8785, JSON Canonicalization Scheme). `undefined` members are left out.
 * @throws CUPEL_KIT_NOT_CANONICAL for NaN, infinities, functions, symbols and bigints.
 */
export function canonicalJson(value: unknown): string {
  return write(value, '$');
}

function write(value: unknown, path: string): string {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw notCanonical(String(value), path);
    return JSON.stringify(value);
  }
  if (Array.isArray(value)) return `[${value.map((item, index) => write(item, `${path}[${index}]`)).join(',')}]`;
  if (typeof value === 'object') {
    const members = Object.entries(value)
      .filter(([, member]) => member !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, member]) => `${JSON.stringify(key)}:${write(member, `${path}.${key}`)}`);
    return `{${members.join(',')}}`;
  }
  throw notCanonical(typeof value, path);
}

function notCanonical(what: string, path: string): Error {
  return kitErrors.CUPEL_KIT_NOT_CANONICAL({ message: `${what} has no canonical JSON form`, where: path });
}
