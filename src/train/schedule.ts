import type { Recipe } from '../contracts/index.ts';

/**
 * Learning rate of optimiser step `step` (0-based) of `totalSteps`. As transformers.get_scheduler: warmup rises
 * linearly from 0, so that with warmup the first step has rate 0; linear and cosine fall to 0 at `totalSteps`.
 */
export function learningRateAt(
  recipe: Pick<Recipe, 'learningRate' | 'schedule' | 'warmupSteps'>,
  step: number,
  totalSteps: number,
): number {
  const { learningRate, schedule, warmupSteps } = recipe;
  if (step < warmupSteps) return learningRate * (step / Math.max(1, warmupSteps));
  if (schedule === 'constant') return learningRate;
  const rest = Math.max(1, totalSteps - warmupSteps);
  if (schedule === 'linear') return learningRate * Math.max(0, (totalSteps - step) / rest);
  return learningRate * Math.max(0, 0.5 * (1 + Math.cos((Math.PI * (step - warmupSteps)) / rest)));
}
