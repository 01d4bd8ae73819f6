import { Random } from '../kit/index.ts';
import type { Recipe } from '../contracts/index.ts';

/** Item indices of every step, epoch after epoch, at most `maxSteps`; the last step of an epoch may be smaller. */
export function stepOrder(
  items: number,
  recipe: Pick<Recipe, 'epochs' | 'batchSize' | 'order' | 'maxSteps'>,
  seed: number,
): number[][] {
  const steps: number[][] = [];
  const most = recipe.maxSteps ?? Infinity;
  for (let epoch = 0; epoch < recipe.epochs && steps.length < most; epoch++) {
    const order = epochOrder(items, recipe.order, seed, `epoch ${epoch}`);
    for (let start = 0; start < items && steps.length < most; start += recipe.batchSize)
      steps.push(order.slice(start, start + recipe.batchSize));
  }
  return steps;
}

/** For each step `perStep` indices of replay items: all of them once before any comes again. */
export function replayOrder(
  items: number,
  perStep: number,
  steps: number,
  order: Recipe['order'],
  seed: number,
): number[][] {
  const queue: number[] = [];
  const needed = items === 0 ? 0 : perStep * steps;
  for (let pass = 0; queue.length < needed; pass++) {
    // One by one: an argument list of a million numbers overflows the stack.
    for (const index of epochOrder(items, order, seed, `replay ${pass}`)) queue.push(index);
  }
  return Array.from({ length: steps }, (_, step) => queue.slice(step * perStep, (step + 1) * perStep));
}

function epochOrder(items: number, order: Recipe['order'], seed: number, stream: string): number[] {
  const indices = Array.from({ length: items }, (_, index) => index);
  return order === 'file' ? indices : new Random(seed, stream).shuffle(indices);
}
