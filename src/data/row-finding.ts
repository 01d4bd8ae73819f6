/** Something that rows have in common, or with a suite. */
export interface RowFinding {
  readonly kind:
    | 'duplicate'
    | 'near-duplicate'
    | 'label-conflict'
    | 'reversed-preference'
    | 'not-json'
    | 'held-out'
    | 'near-held-out';
  readonly severity: 'error' | 'warning';
  readonly ids: readonly string[];
  readonly message: string;
}
