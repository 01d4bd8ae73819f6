import { stringify } from 'yaml';

/**
 * YAML 1.1, which Python's readers read: `no` is quoted, because it would be false, and 1e-8 gets a point, because it
 * would be text.
 */
export function pythonYaml(value: unknown): string {
  return stringify(value, { version: '1.1', lineWidth: 0 }).replace(/(?<=[:-] )(-?\d+)(e[+-]?\d+)$/gm, '$1.0$2');
}
