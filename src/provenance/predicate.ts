import type { Estimate } from '../contracts/index.ts';
import type { ChainLink } from './chain.ts';

/** Type of the predicate of a gate statement; version 1. */
export const gatePredicateType = 'urn:cupel:gate:v1';

export interface GatePredicate {
  readonly version: 1;
  readonly notice: string;
  /** `location`: the checkpoint folder, relative to the evidence folder. */
  readonly checkpoint: { readonly id: string; readonly digest: string; readonly location: string };
  /** null: the first baseline of a channel, which no gate has judged. */
  readonly verdict: {
    readonly kind: string;
    readonly algorithm: string;
    readonly digest: string;
    readonly policyDigest: string;
  } | null;
  readonly estimates: Readonly<Record<string, Estimate>>;
  /** Datasets, base, checkpoint, runs, policy, verdict, in this order. */
  readonly chain: readonly ChainLink[];
}
