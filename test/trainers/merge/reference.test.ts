import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { packageRoot } from '../../../src/kit/index.ts';
import { dareLinear, dareMask, dareTies, type Rescale } from '../../../trainers/merge/dare.ts';
import { linear } from '../../../trainers/merge/linear.ts';
import { slerp } from '../../../trainers/merge/slerp.ts';
import { taskArithmetic } from '../../../trainers/merge/task-arithmetic.ts';
import { ties } from '../../../trainers/merge/ties.ts';

interface Case {
  readonly id: string;
  readonly method: string;
  readonly params: {
    readonly weight?: readonly number[];
    readonly density?: readonly number[];
    readonly normalize?: boolean;
    readonly lambda?: number;
    readonly t?: number;
    readonly rescale?: boolean | 'inverse_density';
  };
  readonly inputs: {
    readonly base?: readonly number[];
    readonly models: readonly (readonly number[])[];
    readonly masks?: readonly (readonly number[])[];
  };
  readonly expected: readonly number[];
}

const cases = JSON.parse(
  readFileSync(join(packageRoot(), 'fixtures/reference/merges/merges.json'), 'utf8'),
) as readonly Case[];

function rescaleOf(value: boolean | 'inverse_density' = true): Rescale {
  if (value === 'inverse_density') return 'inverse-density';
  return value ? 'keep-l1' : 'none';
}

function merged({ method, params, inputs }: Case): Float32Array {
  const models = inputs.models.map((values) => Float32Array.from(values));
  const base = Float32Array.from(inputs.base ?? []);
  const { weight: weights = [], density: densities = [], lambda = 1 } = params;
  const normalize = params.normalize ?? (method === 'linear' || method === 'ties');
  const dare = {
    weights,
    densities,
    lambda,
    normalize,
    rescale: rescaleOf(params.rescale),
    masks: (inputs.masks ?? []).map((mask) => Uint8Array.from(mask)),
  };
  switch (method) {
    case 'linear':
      return linear(models, { weights, normalize });
    case 'slerp':
      return slerp(base, models[0] as Float32Array, params.t ?? 0);
    case 'task_arithmetic':
      return taskArithmetic(base, models, { weights, lambda, normalize });
    case 'ties':
      return ties(base, models, { weights, densities, lambda, normalize });
    case 'dare_linear':
      return dareLinear(base, models, dare);
    default:
      return dareTies(base, models, dare);
  }
}

it('there are all reference merges', () => {
  expect(cases).toHaveLength(57);
  expect(new Set(cases.map(({ method }) => method))).toEqual(
    new Set(['linear', 'slerp', 'task_arithmetic', 'ties', 'dare_linear', 'dare_ties']),
  );
});

it.each(cases)('$id is what mergekit 0.1.5 gives, within 2e-6', (one) => {
  const found = merged(one);
  expect(found).toHaveLength(one.expected.length);
  const worst = Math.max(...one.expected.map((value, index) => Math.abs(value - (found[index] as number))));
  expect(worst).toBeLessThanOrEqual(2e-6);
});

describe('merges', () => {
  const tensor = fc
    .array(fc.float({ min: -8, max: 8, noNaN: true }), { minLength: 4, maxLength: 4 })
    .map((values) => Float32Array.from(values));
  const near = (a: Float32Array, b: Float32Array): void =>
    a.forEach((value, index) => expect(Math.abs(value - (b[index] as number))).toBeLessThanOrEqual(1e-4));

  it('of a model with itself give that model', () => {
    fc.assert(
      fc.property(tensor, tensor, (base, model) => {
        const options = { weights: [0.5, 0.5], lambda: 1, normalize: true };
        near(linear([model, model], options), model);
        near(slerp(model, model, 0.3), model);
        near(taskArithmetic(base, [model, model], options), model);
        near(ties(base, [model, model], { ...options, densities: [1, 1] }), model);
      }),
    );
  });

  it('with weight zero give the base', () => {
    fc.assert(
      fc.property(tensor, tensor, (base, model) => {
        const options = { weights: [0], lambda: 1, normalize: false };
        near(taskArithmetic(base, [model], options), base);
        near(ties(base, [model], { ...options, densities: [0.5] }), base);
      }),
    );
  });

  it('do not depend on the order of models, DARE aside', () => {
    fc.assert(
      fc.property(tensor, tensor, tensor, (base, a, b) => {
        const options = { lambda: 0.7, normalize: true };
        const one = ties(base, [a, b], { ...options, weights: [0.8, 0.3], densities: [0.5, 0.75] });
        near(ties(base, [b, a], { ...options, weights: [0.3, 0.8], densities: [0.75, 0.5] }), one);
      }),
    );
  });
});

describe('the mask of DARE', () => {
  it('keeps the share that is asked for, and is a function of seed and name', () => {
    const mask = dareMask(20_000, 0.3, 5, 'a');
    const share = mask.reduce((sum, value) => sum + value, 0) / mask.length;
    // Standard error 0.0032.
    expect(Math.abs(share - 0.3)).toBeLessThan(0.015);
    expect(dareMask(20_000, 0.3, 5, 'a')).toEqual(mask);
    expect(dareMask(20_000, 0.3, 5, 'b')).not.toEqual(mask);
    expect(dareMask(20_000, 0.3, 6, 'a')).not.toEqual(mask);
    expect(dareMask(50, 1, 5, 'a')).toEqual(new Uint8Array(50).fill(1));
  });
});
