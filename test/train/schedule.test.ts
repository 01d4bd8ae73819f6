import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { learningRateAt } from '../../src/train/index.ts';

interface Schedule {
  readonly name: string;
  readonly base_lr: number;
  readonly warmup_steps: number;
  readonly total_steps: number;
  readonly lr_per_step: readonly number[];
}
const file = new URL('../../fixtures/reference/losses/lr_schedules.json', import.meta.url);
const schedules = JSON.parse(readFileSync(file, 'utf8')) as Schedule[];

describe('learning-rate schedules', () => {
  it.each(schedules.map((one) => [`${one.name}, ${one.warmup_steps} of ${one.total_steps} steps`, one] as const))(
    '%s: equals the reference',
    (_, one) => {
      const schedule =
        one.name === 'constant_with_warmup' ? 'constant' : (one.name as 'constant' | 'linear' | 'cosine');
      for (const [step, expected] of one.lr_per_step.entries()) {
        // The reference goes beyond the last step, where a cosine would rise again; no step is taken there.
        if (step > one.total_steps) continue;
        const rate = learningRateAt(
          { learningRate: one.base_lr, schedule, warmupSteps: one.warmup_steps },
          step,
          one.total_steps,
        );
        expect(Math.abs(rate - expected)).toBeLessThanOrEqual(1e-12 * Math.max(one.base_lr, Math.abs(expected)));
      }
    },
  );

  it('has six references', () => expect(schedules).toHaveLength(6));
});
