/** A strict reading of HTML, enough to judge our own pages: it throws on what a lenient browser would repair. */
export interface HtmlElement {
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly parent: HtmlElement | null;
  /** Text of script and style elements; of others the text with entities undone, without that of children. */
  text: string;
}

const VOID = new Set(['meta', 'link', 'input', 'br', 'img', 'hr']);
const RAW = new Set(['script', 'style']);

/** All elements in document order. @throws Error on unbalanced tags, unquoted attributes, stray `<`. */
export function scanHtml(html: string): HtmlElement[] {
  const elements: HtmlElement[] = [];
  const open: HtmlElement[] = [];
  let at = 0;
  const fail = (what: string): never => {
    throw new Error(`${what} at ${at}: ${JSON.stringify(html.slice(at, at + 80))}`);
  };
  if (!html.startsWith('<!doctype html>')) fail('no doctype');
  at = '<!doctype html>'.length;
  while (at < html.length) {
    const next = html.indexOf('<', at);
    const text = html.slice(at, next < 0 ? undefined : next);
    const inside = open.at(-1);
    if (inside !== undefined) inside.text += decode(text);
    else if (text.trim() !== '') fail('text outside the root');
    if (next < 0) break;
    at = next;
    const close = /^<\/([a-z][a-z0-9]*)>/.exec(html.slice(at, at + 40));
    if (close !== null) {
      if (inside?.name !== close[1]) fail(`closing ${close[1]} inside ${inside?.name}`);
      open.pop();
      at += close[0].length;
      continue;
    }
    const head = /^<([a-z][a-z0-9]*)((?:\s+[a-zA-Z][a-zA-Z0-9:-]*(?:="[^"<]*")?)*)\s*>/.exec(
      html.slice(at, at + 200_000),
    );
    if (head === null) return fail('not a tag');
    const name = head[1] as string;
    const attributes = new Map<string, string>();
    for (const [, key, value] of (head[2] as string).matchAll(/([a-zA-Z][a-zA-Z0-9:-]*)(?:="([^"]*)")?/g)) {
      if (attributes.has(key as string)) fail(`attribute ${key} twice`);
      attributes.set(key as string, decode(value ?? ''));
    }
    const element: HtmlElement = { name, attributes, parent: inside ?? null, text: '' };
    elements.push(element);
    at += head[0].length;
    if (RAW.has(name)) {
      const end = html.toLowerCase().indexOf(`</${name}`, at);
      if (end < 0) fail('raw element without end');
      element.text = html.slice(at, end);
      at = end + `</${name}>`.length;
    } else if (!VOID.has(name)) open.push(element);
  }
  if (open.length > 0) fail(`${open.at(-1)?.name} is never closed`);
  return elements;
}

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"' };

function decode(text: string): string {
  return text.replace(/&(?:#x([0-9a-fA-F]+)|#(\d+)|([a-z]+));/g, (whole, hex, decimal, name) =>
    name !== undefined
      ? (ENTITIES[name as string] ?? whole)
      : String.fromCodePoint(hex === undefined ? Number(decimal) : Number.parseInt(hex as string, 16)),
  );
}

/** The text of an element with that of all its descendants, in no exact order: for `toContain`. */
export function textWithin(elements: readonly HtmlElement[], root: HtmlElement): string {
  const within = (element: HtmlElement | null): boolean =>
    element !== null && (element === root || within(element.parent));
  return elements
    .filter(within)
    .map((element) => element.text)
    .join(' ')
    .replace(/\s+/g, ' ');
}
