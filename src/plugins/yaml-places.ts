import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, type Node } from 'yaml';
import { kitErrors } from '../kit/index.ts';

/** A YAML document with the line of everything that stands in it. */
export interface PlacedYaml {
  readonly value: unknown;
  /** `file:line` of what stands at a path, or of one of its members; of the nearest around it where the path ends earlier. */
  readonly placeOf: (path: readonly string[], member?: string) => string;
}

/** Parses YAML that a person wrote. @throws CUPEL_JSON_INVALID with file:line */
export function parsePlacedYaml(text: string, file: string): PlacedYaml {
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { lineCounter, uniqueKeys: true });
  const lineAt = (offset: number): number => Math.max(1, lineCounter.linePos(offset).line);
  const [error] = document.errors;
  if (error) {
    throw kitErrors.CUPEL_JSON_INVALID({
      message: `not YAML: ${error.message.split('\n')[0] ?? ''}`,
      where: `${file}:${lineAt(error.pos[0])}`,
    });
  }
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 100 });
  } catch (cause) {
    throw kitErrors.CUPEL_JSON_INVALID({
      message: `not YAML that can be read: ${(cause as Error).message}`,
      where: file,
      cause,
    });
  }
  const placeOf = (path: readonly string[], member?: string): string => {
    let node: Node | null | undefined = document.contents;
    let offset = node?.range?.[0] ?? 0;
    for (const part of member === undefined ? path : [...path, member]) {
      if (isAlias(node)) node = node.resolve(document);
      if (isMap(node)) {
        const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === part);
        if (pair === undefined) break;
        offset = (pair.key as Node).range?.[0] ?? offset;
        node = pair.value as Node | null;
      } else if (isSeq(node)) {
        node = node.items[Number(part)] as Node | undefined;
        offset = node?.range?.[0] ?? offset;
      } else break;
    }
    return `${file}:${lineAt(offset)}`;
  };
  return { value, placeOf };
}
