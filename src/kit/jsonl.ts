import { readText } from './files.ts';
import { kitErrors } from './kit-errors.ts';

/** A parsed line with its 1-based number. */
export interface JsonlLine {
  readonly line: number;
  readonly value: unknown;
}

/** Parses JSONL; empty lines are skipped. @throws CUPEL_JSONL_INVALID with file:line. */
export function parseJsonl(text: string, file: string): JsonlLine[] {
  const lines: JsonlLine[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    try {
      lines.push({ line: index + 1, value: JSON.parse(line) });
    } catch (cause) {
      throw kitErrors.CUPEL_JSONL_INVALID({
        message: `line ${index + 1} is not JSON: ${(cause as Error).message}`,
        where: `${file}:${index + 1}`,
        cause,
      });
    }
  }
  return lines;
}

/** Reads and parses a JSONL file. */
export async function readJsonl(file: string): Promise<JsonlLine[]> {
  return parseJsonl(await readText(file), file);
}
