export interface DiffPart {
  readonly text: string;
  readonly kind: 'same' | 'removed' | 'added';
}

/** Words of a text over which a diff is made; longer texts are compared as a whole. */
const MOST_WORDS = 600;

/** Word diff (longest common subsequence over words and the white space between them). */
export function wordDiff(before: string, after: string): DiffPart[] {
  if (before === after) return [{ text: after, kind: 'same' }];
  const a = before.match(/\s+|[^\s\w]|\w+/g) ?? [];
  const b = after.match(/\s+|[^\s\w]|\w+/g) ?? [];
  if (a.length > MOST_WORDS || b.length > MOST_WORDS)
    return [
      { text: before, kind: 'removed' },
      { text: after, kind: 'added' },
    ];
  const width = b.length + 1;
  const length = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      length[i * width + j] =
        a[i] === b[j]
          ? (length[(i + 1) * width + j + 1] as number) + 1
          : Math.max(length[(i + 1) * width + j] as number, length[i * width + j + 1] as number);
  const parts: { text: string; kind: DiffPart['kind'] }[] = [];
  const push = (text: string, kind: DiffPart['kind']): void => {
    const last = parts.at(-1);
    if (last?.kind === kind) last.text += text;
    else parts.push({ text, kind });
  };
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      push(a[i] as string, 'same');
      i++;
      j++;
    } else if (
      j >= b.length ||
      (i < a.length && (length[(i + 1) * width + j] as number) >= (length[i * width + j + 1] as number))
    )
      push(a[i++] as string, 'removed');
    else push(b[j++] as string, 'added');
  }
  return parts;
}

export interface FieldRow {
  readonly field: string;
  /** null where the object lacks the field. */
  readonly expected: string | null;
  readonly baseline: string | null;
  readonly output: string | null;
}

/**
 * Fields side by side, when the expected result and the output are flat JSON objects; else null.
 * A baseline that is no object has null in every field.
 */
export function fieldRows(expected: string, baseline: string | null, output: string): FieldRow[] | null {
  const [want, got] = [flatObject(expected), flatObject(output)];
  if (want === null || got === null) return null;
  const had = baseline === null ? null : flatObject(baseline);
  const fields = [...new Set([...Object.keys(want), ...Object.keys(got), ...Object.keys(had ?? {})])].slice(0, 40);
  const read = (object: Readonly<Record<string, unknown>> | null, field: string): string | null =>
    object !== null && Object.hasOwn(object, field) ? show(object[field]) : null;
  return fields.map((field) => ({
    field,
    expected: read(want, field),
    baseline: read(had, field),
    output: read(got, field),
  }));
}

function show(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function flatObject(text: string): Readonly<Record<string, unknown>> | null {
  if (text.length > 20_000) return null;
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : null;
  } catch {
    return null;
  }
}
