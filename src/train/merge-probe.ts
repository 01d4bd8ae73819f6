import type { Learner, LearnerOptions, Recipe, TrainEvent } from '../contracts/index.ts';
import type { Example } from './examples.ts';
import { packSequences } from './packing.ts';
import { warn } from './warn.ts';

/** How many examples are read; their labelled tokens are compared. */
const probes = 4;
/** Rounding of merged weights to bf16 alone makes differences of this order. */
const limits = { f32: 1e-3, bf16: 0.1 } as const;

/**
 * Largest absolute difference of a log-probability between adapters over their base and the saved model that they were
 * merged into. Beyond 1e-3 (bf16: 0.1) it is told.
 */
export async function mergeDifference(
  learner: Learner,
  folder: string,
  openSaved: (folder: string, options: LearnerOptions) => Promise<Learner>,
  examples: readonly Example[],
  recipe: Pick<Recipe, 'dtype'>,
  sink: (event: TrainEvent) => void,
): Promise<number> {
  const batch = packSequences(examples.slice(0, probes).flatMap(({ sequences }) => sequences));
  const trained = await learner.logProbabilities(batch, { keep: false });
  const saved = await openSaved(folder, { frozen: true });
  let largest = 0;
  try {
    const merged = await saved.logProbabilities(batch, { keep: false });
    for (const [index, value] of trained.entries()) {
      largest = Math.max(largest, Math.abs(value - (merged[index] ?? Infinity)));
    }
  } finally {
    await saved.close();
  }
  const limit = limits[recipe.dtype];
  if (!(largest <= limit)) {
    warn(
      sink,
      'CUPEL_TRAIN_MERGE_DIFFERS',
      `log-probabilities of the merged model differ from those of its adapters by up to ${largest}, and at most ${limit} is expected`,
    );
  }
  return largest;
}
