/** Events of an episode form a hash chain: `hash = sha256(previous hash + canonical event)`. */
export type TraceEvent =
  | { readonly type: 'start'; readonly caseDigest: string; readonly stateDigest: string }
  | { readonly type: 'prompt'; readonly digest: string }
  | { readonly type: 'assistant'; readonly text: string }
  | { readonly type: 'tool-call'; readonly name: string; readonly arguments: Readonly<Record<string, unknown>> }
  | { readonly type: 'tool-result'; readonly name: string; readonly result: unknown; readonly ok: boolean }
  | {
      readonly type: 'end';
      readonly reason: 'done' | 'turn-limit' | 'context-limit' | 'error';
      readonly stateDigest: string;
    };

export interface Trace {
  readonly events: readonly TraceEvent[];
  /** Hex sha256, one an event. */
  readonly hashes: readonly string[];
}
