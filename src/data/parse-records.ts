import { type JsonlLine, kitErrors, parseJsonl } from '../kit/index.ts';

/**
 * Records of a dataset: JSON Lines, or one JSON array of them (as Alpaca and ShareGPT files are), each with the line it
 * begins on. A byte order mark is skipped. @throws CUPEL_JSONL_INVALID with file:line
 */
export function parseRecords(content: string, file: string): JsonlLine[] {
  const text = content.replace(/^\uFEFF/u, '');
  return /^\s*\[\s*\{/u.test(text) ? items(text, file) : parseJsonl(text, file);
}

function items(text: string, file: string): JsonlLine[] {
  let values: unknown[];
  try {
    values = JSON.parse(text) as unknown[];
  } catch (cause) {
    const message = (cause as Error).message;
    const position = /position (\d+)/u.exec(message)?.[1];
    const line = position === undefined ? 1 : text.slice(0, Number(position)).split('\n').length;
    throw kitErrors.CUPEL_JSONL_INVALID({
      message: `the file begins as a JSON array, and line ${line} is not JSON: ${message}`,
      where: `${file}:${line}`,
      cause,
    });
  }
  const lines = startLines(text);
  return values.map((value, index) => ({ line: lines[index] ?? 1, value }));
}

/** Line of the start of each item of a JSON array of objects that is known to parse. */
function startLines(text: string): number[] {
  const starts: number[] = [];
  let [depth, line, inText] = [0, 1, false];
  for (let index = 0; index < text.length; index++) {
    const sign = text[index];
    if (sign === '\n') line++;
    else if (inText) {
      if (sign === '\\') index++;
      else if (sign === '"') inText = false;
    } else if (sign === '"') inText = true;
    else if (sign === '[' || sign === '{') {
      if (depth === 1) starts.push(line);
      depth++;
    } else if (sign === ']' || sign === '}') depth--;
  }
  return starts;
}
