/**
 * Text of models, data sets and configs as a page may show it. Escaping is the template's work; this is about what
 * survives escaping: control characters, and bidirectional overrides that would make a text read as another one.
 */
const INVISIBLE =
  /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/g;

const LONE_SURROGATE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** Makes invisible characters visible (`␀`, `‹U+202E›`) and replaces lone surrogates. Line ends become `\n`. */
export function visibleText(text: string): string {
  return text
    .replace(LONE_SURROGATE, '\ufffd')
    .replace(/\r\n?/g, '\n')
    .replace(INVISIBLE, (character) => {
      const code = character.charCodeAt(0);
      if (code < 0x20) return String.fromCharCode(0x2400 + code);
      return `‹U+${code.toString(16).toUpperCase().padStart(4, '0')}›`;
    });
}

/** At most `limit` UTF-16 units of the text, made visible; says how much is left out. */
export function clippedText(text: string, limit: number): string {
  if (text.length <= limit) return visibleText(text);
  return `${visibleText(text.slice(0, limit))} … (${text.length - limit} more characters)`;
}

/** The same for every text in a value of plain data, names of members included. */
export function visibleDeep<T>(value: T): T {
  if (typeof value === 'string') return visibleText(value) as T & string;
  if (Array.isArray(value)) return value.map((item: unknown) => visibleDeep(item)) as T & unknown[];
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(
      Object.entries(value).map(([name, member]) => [visibleText(name), visibleDeep(member)]),
    ) as T & object;
  return value;
}
