import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Schedule } from '../../src/contracts/index.ts';
import { learningRateAt } from '../../src/train/index.ts';

interface Reference {
  readonly name: string;
  readonly base_lr: number;
  readonly warmup_steps: number;
  readonly total_steps: number;
  readonly specific: Readonly<Record<string, number>>;
  readonly lr_per_step: readonly number[];
}
const file = new URL('../../fixtures/reference/losses/lr_schedules.json', import.meta.url);
const references = JSON.parse(readFileSync(file, 'utf8')) as Reference[];

function scheduleOf({ name, specific }: Reference): Schedule {
  const has = (key: string): number => specific[key] as number;
  switch (name) {
    case 'constant':
    case 'constant_with_warmup':
      return 'constant';
    case 'linear':
      return 'linear';
    case 'cosine':
      return specific['num_cycles'] === undefined ? 'cosine' : { kind: 'cosine', cycles: has('num_cycles') };
    case 'cosine_with_min_lr':
      return { kind: 'cosine', minimumRatio: has('min_lr_rate') };
    case 'cosine_with_restarts':
      return { kind: 'cosine-restarts', cycles: has('num_cycles') };
    case 'polynomial':
      return { kind: 'polynomial', power: has('power'), end: has('lr_end') };
    case 'inverse_sqrt':
      return { kind: 'inverse-sqrt' };
    case 'warmup_stable_decay':
      return { kind: 'wsd', decaySteps: has('num_decay_steps'), minimumRatio: has('min_lr_ratio') };
    default:
      throw new Error(`no schedule for ${name}`);
  }
}

const rate = (schedule: Schedule, warmupSteps: number, step: number, total: number): number =>
  learningRateAt({ learningRate: 1e-3, schedule, warmupSteps }, step, total);

describe('learning-rate schedules', () => {
  it.each(
    references.map(
      (one) =>
        [`${one.name} ${JSON.stringify(one.specific)}, ${one.warmup_steps} of ${one.total_steps} steps`, one] as const,
    ),
  )('%s: equals the reference, beyond the last step too', (_, one) => {
    for (const [step, expected] of one.lr_per_step.entries()) {
      const found = learningRateAt(
        { learningRate: one.base_lr, schedule: scheduleOf(one), warmupSteps: one.warmup_steps },
        step,
        one.total_steps,
      );
      expect(Math.abs(found - expected)).toBeLessThanOrEqual(1e-12 * Math.max(one.base_lr, Math.abs(expected)));
    }
  });

  it('has twelve references', () => expect(references).toHaveLength(12));

  it('takes a share of all steps as warmup, rounded up', () => {
    for (const step of [0, 1, 2, 3, 10]) {
      expect(rate('linear', 0.25, step, 10)).toBe(rate('linear', 3, step, 10));
    }
  });

  it('decays in the forms that the reference has: linear, and by the root', () => {
    const wsd = (decay: 'linear' | '1-sqrt'): number[] =>
      [0, 3, 4, 5, 8].map((step) => rate({ kind: 'wsd', decaySteps: 4, decay }, 0, step, 8));
    expect(wsd('linear')).toEqual([1e-3, 1e-3, 1e-3, 7.5e-4, 0]);
    expect(wsd('1-sqrt')).toEqual([1e-3, 1e-3, 1e-3, 5e-4, 0]);
  });

  it('stays stable for as long as it is told, and at its minimum after', () => {
    const schedule: Schedule = { kind: 'wsd', decaySteps: 2, stableSteps: 3, minimumRatio: 0.5 };
    expect([2, 3, 5, 9].map((step) => rate(schedule, 0, step, 10))).toEqual([1e-3, 1e-3, 5e-4, 5e-4]);
  });
});
