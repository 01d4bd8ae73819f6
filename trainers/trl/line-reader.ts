import type { FileHandle } from 'node:fs/promises';
import { trlErrors } from './errors.ts';

const pieceBytes = 64 * 1024;
const lineLimit = 1024 ** 2;

/** Reads the lines of a file that still grows, each byte once. */
export class LineReader {
  private readonly file: FileHandle;
  private readonly path: string;
  private position = 0;
  private line = 0;
  private pieces: Buffer[] = [];
  private held = 0;

  constructor(file: FileHandle, path: string) {
    this.file = file;
    this.path = path;
  }

  /**
   * The lines that were completed since the last call, without empty ones.
   * @param last also what stands after the last end of line
   * @throws CUPEL_TRL_EVENTS for a line of more than 1 MiB
   */
  async *lines(last: boolean): AsyncGenerator<{ readonly text: string; readonly where: string }> {
    for (;;) {
      const { buffer, bytesRead } = await this.file.read(Buffer.alloc(pieceBytes), 0, pieceBytes, this.position);
      if (bytesRead === 0) break;
      this.position += bytesRead;
      let rest = buffer.subarray(0, bytesRead);
      for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
        yield* this.complete(rest.subarray(0, end));
        rest = rest.subarray(end + 1);
      }
      this.hold(rest);
    }
    if (last && this.held > 0) yield* this.complete(Buffer.alloc(0));
  }

  private hold(piece: Buffer): void {
    this.pieces.push(piece);
    this.held += piece.length;
    if (this.held <= lineLimit) return;
    throw trlErrors.CUPEL_TRL_EVENTS({
      message: `a line of more than ${lineLimit} bytes`,
      where: `${this.path}:${this.line + 1}`,
    });
  }

  private *complete(piece: Buffer): Generator<{ readonly text: string; readonly where: string }> {
    this.hold(piece);
    const text = Buffer.concat(this.pieces).toString('utf8');
    this.pieces = [];
    this.held = 0;
    this.line += 1;
    if (text !== '') yield { text, where: `${this.path}:${this.line}` };
  }
}
