import { canonicalJson, sha256 } from '../kit/index.ts';
import { storeErrors } from './errors.ts';

/**
 * The line format of every append-only file of this room: `{"check":"<16 hex>","value":<canonical JSON>}\n`.
 * `check` is the head of the sha256 over the bytes of the value. Each line is JSON by itself, so other tools can read it.
 */
const head = '{"check":"';
const middle = '","value":';
const valueStart = head.length + 16 + middle.length;

export interface CheckedLines {
  readonly values: readonly unknown[];
  /** 1 if the file ends in a part of a line, which is then not among the values; else 0. */
  readonly torn: number;
  /** Length in bytes of the whole lines. */
  readonly validBytes: number;
}

export function formatCheckedLine(value: unknown): string {
  const text = canonicalJson(value);
  return `${head}${check(text)}${middle}${text}}\n`;
}

/**
 * Parses whole lines. A last line without line feed is what a crash in the middle of an append leaves: it is dropped
 * and counted. Anything else that does not hold its checksum is damage.
 * @throws CUPEL_STORE_LINE_CORRUPT with file:line.
 */
export function parseCheckedLines(bytes: Buffer, file: string): CheckedLines {
  const values: unknown[] = [];
  let start = 0;
  for (let end = bytes.indexOf(10, start); end !== -1; end = bytes.indexOf(10, start)) {
    values.push(parseLine(bytes.subarray(start, end), `${file}:${values.length + 1}`));
    start = end + 1;
  }
  return { values, torn: start < bytes.length ? 1 : 0, validBytes: start };
}

function parseLine(line: Buffer, where: string): unknown {
  const text = line.subarray(valueStart, -1);
  try {
    // Bytes are compared, not text: decoding would turn different invalid bytes into the same replacement character.
    if (line.equals(Buffer.concat([Buffer.from(`${head}${check(text)}${middle}`), text, Buffer.from('}')]))) {
      return JSON.parse(text.toString('utf8'));
    }
  } catch {
    // Not JSON in spite of its checksum: told like any other damage.
  }
  throw storeErrors.CUPEL_STORE_LINE_CORRUPT({
    message: `the line does not match its checksum (begins ${JSON.stringify(line.toString('utf8', 0, 40))})`,
    where,
  });
}

function check(text: string | Buffer): string {
  return sha256(text).slice(0, 16);
}
