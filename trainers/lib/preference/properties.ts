/** Option of the losses that can take some labels to be swapped. */
export const labelSmoothing = {
  type: 'number',
  minimum: 0,
  exclusiveMaximum: 0.5,
  default: 0,
  description: 'Share of labels taken to be swapped.',
} as const;

/** Scale of the reward of a reference-free loss, with its default. */
export function rewardScale(byDefault: number): Readonly<Record<string, unknown>> {
  return {
    type: 'number',
    exclusiveMinimum: 0,
    maximum: 100,
    default: byDefault,
    description: 'Scale of the reward: larger means that smaller differences suffice.',
  };
}

/** Margin that the chosen answer is asked to lead by, with its default. */
export function targetMargin(byDefault: number): Readonly<Record<string, unknown>> {
  return {
    type: 'number',
    minimum: 0,
    maximum: 100,
    default: byDefault,
    description: 'Reward margin that the chosen answer is asked to lead by.',
  };
}

export const chosenLikelihood = {
  type: 'number',
  minimum: 0,
  maximum: 100,
  default: 1,
  description: 'Weight of the mean token −log p of the chosen answers.',
} as const;
