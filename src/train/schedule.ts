import type { Recipe, Schedule } from '../contracts/index.ts';

type Rule = Exclude<Schedule, string>;

/**
 * Learning rate of optimiser step `step` (0-based) of `totalSteps`, as transformers.get_scheduler 5.23 gives it: with
 * warmup the first step has rate 0 (or the minimum of `wsd`). `warmupSteps` below 1 is a share of all steps, rounded up.
 * @returns `learningRate` × a factor in [0, 1]; `polynomial` ends at its own `end`
 */
export function learningRateAt(
  recipe: Pick<Recipe, 'learningRate' | 'schedule' | 'warmupSteps'>,
  step: number,
  totalSteps: number,
): number {
  const { learningRate, schedule } = recipe;
  const warmup = recipe.warmupSteps < 1 ? Math.ceil(recipe.warmupSteps * totalSteps) : recipe.warmupSteps;
  const kind = typeof schedule === 'string' ? schedule : schedule.kind;
  if (step < warmup) {
    const rise = step / Math.max(1, warmup);
    const floor = typeof schedule !== 'string' && schedule.kind === 'wsd' ? (schedule.minimumRatio ?? 0) : 0;
    return learningRate * above(rise, floor);
  }
  if (kind === 'constant') return learningRate;
  const rest = Math.max(1, totalSteps - warmup);
  if (kind === 'linear') return learningRate * Math.max(0, (totalSteps - step) / rest);
  if (typeof schedule === 'string') {
    return learningRate * Math.max(0, 0.5 * (1 + Math.cos((Math.PI * (step - warmup)) / rest)));
  }
  return learningRate * factorOf(schedule, step, warmup, totalSteps, learningRate);
}

function factorOf(rule: Rule, step: number, warmup: number, totalSteps: number, learningRate: number): number {
  const progress = (step - warmup) / Math.max(1, totalSteps - warmup);
  switch (rule.kind) {
    case 'cosine':
      return Math.max(0, above(wave(2 * (rule.cycles ?? 0.5) * progress), rule.minimumRatio ?? 0));
    case 'cosine-restarts':
      return progress >= 1 ? 0 : Math.max(0, wave(((rule.cycles ?? 1) * progress) % 1));
    case 'polynomial': {
      const end = rule.end ?? 1e-7;
      if (step > totalSteps) return end / learningRate;
      return ((learningRate - end) * (1 - progress) ** (rule.power ?? 1) + end) / learningRate;
    }
    case 'inverse-sqrt': {
      const timescale = rule.timescale ?? (warmup > 0 ? warmup : 10_000);
      return 1 / Math.sqrt((step + timescale - warmup) / timescale);
    }
    case 'wsd':
      return afterWarmup(rule, step - warmup, totalSteps - warmup);
  }
}

/** Stable, then decay (Hu et al. 2024, arXiv:2404.06395). */
function afterWarmup(rule: Extract<Rule, { kind: 'wsd' }>, step: number, steps: number): number {
  const minimum = rule.minimumRatio ?? 0;
  const stable = rule.stableSteps ?? steps - rule.decaySteps;
  if (step < stable) return 1;
  if (step >= stable + rule.decaySteps) return minimum;
  const progress = (step - stable) / Math.max(1, rule.decaySteps);
  const decay = rule.decay ?? 'cosine';
  if (decay === 'linear') return Math.max(0, above(1 - progress, minimum));
  if (decay === '1-sqrt') return Math.max(0, above(1 - Math.sqrt(progress), minimum));
  return Math.max(0, above(wave(2 * (rule.cycles ?? 0.5) * progress), minimum));
}

/** Half a cosine wave from 1 at turn 0 to 0 at turn 1. */
function wave(turn: number): number {
  return 0.5 * (1 + Math.cos(Math.PI * turn));
}

function above(factor: number, minimum: number): number {
  return minimum === 0 ? factor : factor * (1 - minimum) + minimum;
}
