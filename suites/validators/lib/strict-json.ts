/** Limits far above any honest answer; they keep hostile ones cheap. */
const maxCharacters = 1_000_000;
const maxDepth = 64;

export type StrictJson =
  { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly reason: string };

/**
 * Parses the whole text as one JSON value (RFC 8259). Stricter than JSON.parse: repeated keys are refused,
 * because which of the two counts would differ between readers. No repair, no fences, no prose around it.
 */
export function parseStrictJson(text: string): StrictJson {
  if (text.length > maxCharacters) return { ok: false, reason: `longer than ${maxCharacters} characters` };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { ok: false, reason: `not JSON: ${(error as Error).message.slice(0, 120)}` };
  }
  const fault = scan(text);
  return fault === null ? { ok: true, value } : { ok: false, reason: fault };
}

/** The text as a JSON object, or null. Own members only should be read from it. */
export function parseObject(text: string): Readonly<Record<string, unknown>> | null {
  const parsed = parseStrictJson(text);
  return parsed.ok && isObject(parsed.value) ? parsed.value : null;
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** An own member, so that `__proto__` and `toString` are not found where nobody wrote them. */
export function own(value: unknown, key: string): unknown {
  return isObject(value) && Object.hasOwn(value, key) ? value[key] : undefined;
}

/** Depth and repeated keys of a text that is known to be JSON. */
function scan(text: string): string | null {
  const keys: (Set<string> | null)[] = [];
  let expectKey = false;
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === '{' || character === '[') {
      if (keys.length >= maxDepth) return `nested deeper than ${maxDepth}`;
      keys.push(character === '{' ? new Set() : null);
      expectKey = character === '{';
    } else if (character === '}' || character === ']') {
      keys.pop();
      expectKey = false;
    } else if (character === ',') {
      expectKey = keys.at(-1) instanceof Set;
    } else if (character === '"') {
      const start = i++;
      while (text[i] !== '"') i += text[i] === '\\' ? 2 : 1;
      if (!expectKey) continue;
      const key = JSON.parse(text.slice(start, i + 1)) as string;
      const seen = keys.at(-1);
      if (seen?.has(key)) return `the key ${JSON.stringify(key.slice(0, 40))} stands twice`;
      seen?.add(key);
      expectKey = false;
    }
  }
  return null;
}
