import type { RunIdentity } from '../contracts/index.ts';
import { canonicalJson } from './canonical-json.ts';
import { sha256 } from './hash.ts';

/** First 16 hex characters of the sha256 over the canonical identity without `id`. */
export function runId(identity: Omit<RunIdentity, 'id'>): string {
  return sha256(canonicalJson({ ...identity, id: undefined })).slice(0, 16);
}
