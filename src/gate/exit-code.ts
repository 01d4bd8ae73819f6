import type { VerdictKind } from '../contracts/index.ts';

/** Exit code of a verdict: 0 PROMOTE, 1 REJECT, 3 INCONCLUSIVE, 4 INVALID. */
export function exitCodeOf(kind: VerdictKind): 0 | 1 | 3 | 4 {
  return ({ PROMOTE: 0, REJECT: 1, INCONCLUSIVE: 3, INVALID: 4 } as const)[kind];
}
