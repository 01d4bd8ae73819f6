import type { Trace, TraceEvent } from '../../../src/contracts/index.ts';
import { canonicalJson, sha256 } from '../../../src/kit/index.ts';

type ToolCallEvent = Extract<TraceEvent, { type: 'tool-call' }>;

/** Calls of a trace whose hash chain holds; null when an event was altered, added or removed. */
export function trustedCalls(trace: Trace): readonly ToolCallEvent[] | null {
  let previous = '';
  if (trace.events.length !== trace.hashes.length) return null;
  for (const [index, event] of trace.events.entries()) {
    previous = sha256(previous + canonicalJson(event));
    if (trace.hashes[index] !== previous) return null;
  }
  return trace.events.filter((event): event is ToolCallEvent => event.type === 'tool-call');
}

export function endReason(trace: Trace): string | null {
  const last = trace.events.at(-1);
  return last?.type === 'end' ? last.reason : null;
}
