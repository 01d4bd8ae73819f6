import type { ReportInput } from '../../src/contracts/index.ts';

/** Texts that a model, a data set or a file name may hold. */
export const HOSTILE_TEXTS: readonly string[] = [
  '</script><img src=x onerror=alert(1)>',
  '"><svg onload=alert(1)>',
  "' autofocus onfocus=alert(1) x='",
  '</style></title></textarea><iframe srcdoc="<script>alert(1)</script>">',
  '<!--<script>--><script>alert(1)</script>',
  '{{constructor.constructor "alert(1)"}} {{{this}}} ${alert(1)}',
  'javascript:alert(1) https://evil.example/x.js //evil.example',
  '\u202Etpircs\u202C \u0000\u0008\u001b[31m \ud800 \u2066x',
  '`| [x](https://evil.example) ![i](//evil.example/i.png) @everyone #1 <details open>\n# heading',
];

/** Members whose values are fixed words or identifiers that join parts of the input. */
const WORDS = new Set(['kind', 'outcome', 'direction', 'weight', 'layer', 'change', 'version']);

/** The input with every free text replaced by the payload; where names must stay apart, by the payload and the name. */
export function poison(input: ReportInput, payload: string): ReportInput {
  const walk = (value: unknown, key: string, path: string): unknown => {
    if (typeof value === 'string') {
      if (
        WORDS.has(key) ||
        (key === 'role' && path.includes('.rules.')) ||
        (key === 'verdict' && path.includes('naiveGates'))
      )
        return value;
      return `${payload}${value}`;
    }
    if (Array.isArray(value)) return value.map((item, index) => walk(item, `${key}[]`, `${path}.${index}`));
    if (typeof value === 'object' && value !== null)
      return Object.fromEntries(
        Object.entries(value).map(([name, member]) => [
          ['metrics', 'references'].includes(key) && !Array.isArray(value) ? `${payload}${name}` : name,
          walk(member, name, `${path}.${name}`),
        ]),
      );
    return value;
  };
  return walk(input, '', '') as ReportInput;
}
