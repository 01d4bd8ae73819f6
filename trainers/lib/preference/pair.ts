/** What a preference loss reads of one pair; natural logarithms, summed over the tokens of the answer. */
export interface Pair {
  /** log(policy / reference) of each answer, or a transform of it (see `divergence.ts`). */
  readonly chosen: number;
  readonly rejected: number;
  readonly chosenTokens: number;
  readonly rejectedTokens: number;
  /** log policy(chosen) − log policy(rejected), and the same of the reference. */
  readonly policyMargin: number;
  readonly referenceMargin: number;
}

/** Loss of a pair with d loss / d chosen and d loss / d rejected. */
export interface PairLoss {
  readonly loss: number;
  readonly chosen: number;
  readonly rejected: number;
}

export interface PairSettings {
  readonly beta: number;
  readonly labelSmoothing: number;
  readonly discopopTau: number;
}

/** Losses of all pairs of a part; most look at one pair alone. */
export type BatchLoss = (pairs: readonly Pair[], settings: PairSettings) => readonly PairLoss[];

/** A loss of each pair by itself. */
export function each(loss: (pair: Pair, settings: PairSettings) => PairLoss): BatchLoss {
  return (pairs, settings) => pairs.map((pair) => loss(pair, settings));
}

/** A loss of one margin β (chosen − rejected), from its value and slope. */
export function ofMargin(
  loss: (margin: number, settings: PairSettings) => { readonly loss: number; readonly slope: number },
): BatchLoss {
  return each(({ chosen, rejected }, settings) => {
    const value = loss(settings.beta * (chosen - rejected), settings);
    const slope = settings.beta * value.slope;
    return { loss: value.loss, chosen: slope, rejected: -slope };
  });
}
