import type { RunIdentity } from '../contracts/index.ts';
import { canonicalJson } from './canonical-json.ts';
import { sha256 } from './hash.ts';

/** First 16 hex characters of the sha256 over the canonical identity without `id`. */
export function runId(identity: Omit<RunIdentity, 'id'>): string {
  return sha256(canonicalJson({ ...identity, id: undefined })).slice(0, 16);
}

/** Seed of one request of a run that samples: 48 bits, the same whatever else is asked. @param id unique in the run */
export function requestSeed(seed: number, id: string): number {
  return Number.parseInt(sha256(`${seed} ${id}`).slice(0, 12), 16);
}
