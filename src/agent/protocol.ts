/** What an assistant message is: a call of a tool, an attempt at one, or the last word. */
export type AssistantTurn =
  | { readonly kind: 'call'; readonly name: string; readonly arguments: Readonly<Record<string, unknown>> }
  | { readonly kind: 'malformed'; readonly reason: string }
  | { readonly kind: 'final' };

/** Longer calls are refused unread: honest arguments are ids and names. */
const longestCall = 2000;

/**
 * Reads `call name {json}`. The call must be the whole message, so that a quoted or mentioned call is only text.
 * Parsed, never evaluated; never throws.
 */
export function readTurn(text: string): AssistantTurn {
  const message = text.trim();
  if (!message.startsWith('call ')) return { kind: 'final' };
  if (message.length > longestCall) return { kind: 'malformed', reason: 'call too long' };
  const match = /^call ([A-Za-z_][A-Za-z0-9_]{0,63}) (\{.*\})$/s.exec(message);
  if (!match) return { kind: 'malformed', reason: 'not a call' };
  const [, name = '', json = ''] = match;
  try {
    return { kind: 'call', name, arguments: JSON.parse(json) as Record<string, unknown> };
  } catch {
    return { kind: 'malformed', reason: 'arguments are not JSON' };
  }
}

/** The message that calls a tool, as `readTurn` reads it. */
export function writeCall(name: string, given: Readonly<Record<string, unknown>>): string {
  return `call ${name} ${writeResult(given)}`;
}

/** JSON on one line with ", " and ": ", the form of all tool messages. */
export function writeResult(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(writeResult).join(', ')}]`;
  if (typeof value === 'object' && value !== null) {
    return `{${Object.entries(value)
      .map(([key, member]) => `${JSON.stringify(key)}: ${writeResult(member)}`)
      .join(', ')}}`;
  }
  return JSON.stringify(value) ?? 'null';
}
