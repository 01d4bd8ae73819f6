import type { Trace, TraceEvent } from '../contracts/index.ts';
import { canonicalJson, sha256 } from '../kit/index.ts';

/** Hash of an event after the one before it; the first stands after the empty text. */
export function chainHash(previous: string, event: TraceEvent): string {
  return sha256(previous + canonicalJson(event));
}

/** Writes the events of one episode. Only the player holds one, so no text of a model can become a tool result. */
export class TraceWriter {
  readonly #events: TraceEvent[] = [];
  readonly #hashes: string[] = [];

  add(event: TraceEvent): void {
    this.#hashes.push(chainHash(this.#hashes.at(-1) ?? '', event));
    this.#events.push(event);
  }

  finish(): Trace {
    return { events: [...this.#events], hashes: [...this.#hashes] };
  }
}

/**
 * Checks the hash chain of a trace. Guards against edits, not against someone who rewrites the whole chain:
 * for that the head is signed with the evidence.
 * @returns null if it holds, else the index of the first event that does not fit
 */
export function brokenAt(trace: Trace): number | null {
  let previous = '';
  for (const [index, event] of trace.events.entries()) {
    previous = chainHash(previous, event);
    if (trace.hashes[index] !== previous) return index;
  }
  return trace.hashes.length === trace.events.length ? null : trace.events.length;
}
