/**
 * One measured value of one case. `null` is unscored: kept, counted and shown, never averaged.
 * A metric that does not apply to a case (an order id where there is none) is simply not emitted.
 */
export interface Score {
  readonly value: number | null;
  /** Why, in a few words: shown in the failure browser. Required when value is null. */
  readonly explanation?: string;
}

/** Metric name to score. Names are lower_snake, as in suite.yaml. */
export type Scores = Readonly<Record<string, Score>>;
