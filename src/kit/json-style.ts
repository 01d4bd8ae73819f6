/** What stands between the members of a JSON text. */
export interface JsonStyle {
  readonly item: string;
  readonly colon: string;
}

/** `{"a": 1, "b": 2}` */
export const spacedJson: JsonStyle = { item: ', ', colon: ': ' };
/** `{"a":1,"b":2}` */
export const compactJson: JsonStyle = { item: ',', colon: ':' };

/** Writes JSON on one line in a style; members keep their order, `undefined` members are left out. */
export function writeJson(value: unknown, style: JsonStyle = spacedJson): string {
  if (Array.isArray(value)) return `[${value.map((item) => writeJson(item ?? null, style)).join(style.item)}]`;
  if (typeof value === 'object' && value !== null) {
    const members = Object.entries(value).filter(([, member]) => member !== undefined);
    return `{${members.map(([key, member]) => JSON.stringify(key) + style.colon + writeJson(member, style)).join(style.item)}}`;
  }
  return JSON.stringify(value);
}

/** The style in which a JSON text is written; compact where it is neither. The text must be JSON. */
export function jsonStyleOf(text: string): JsonStyle {
  return writeJson(JSON.parse(text), spacedJson) === text.trim() ? spacedJson : compactJson;
}

/** The object that a text is, or null where it is something else or no JSON. */
export function parseJsonObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : null;
  } catch {
    return null;
  }
}
