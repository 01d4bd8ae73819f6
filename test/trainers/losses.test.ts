import { describe, expect, it } from 'vitest';
import type { Objective, ObjectiveExample, ObjectivePart, ObjectiveValue } from '../../src/contracts/index.ts';
import { alphapoObjective } from '../../trainers/alphapo.ts';
import { cpoObjective, type CpoParameters } from '../../trainers/cpo.ts';
import { cpoSimpoObjective } from '../../trainers/cpo-simpo.ts';
import { dpoObjective } from '../../trainers/dpo.ts';
import { ktoObjective } from '../../trainers/kto.ts';
import type { PreferenceParameters } from '../../trainers/lib/preference/parameters.ts';
import type { ProspectParameters } from '../../trainers/lib/preference/prospect.ts';
import { orpoObjective } from '../../trainers/orpo.ts';
import { sftObjective } from '../../trainers/sft.ts';
import { simpoObjective } from '../../trainers/simpo.ts';
import { ones, partOf, type Ragged, readReferences, type Reference } from './parts.ts';

const references = readReferences();
const casesOf = (...methods: string[]): (readonly [string, Reference])[] =>
  references.filter((one) => methods.includes(one.method)).map((one) => [one.id, one] as const);

const single = (lists: Ragged): ObjectiveExample[] =>
  lists.map((list) => ({ policy: [list], reference: null, weights: ones([list]) }));
const pairs = ({ inputs }: Reference): ObjectiveExample[] =>
  (inputs['policy_chosen'] ?? []).map((chosen, index) => {
    const policy = [chosen, inputs['policy_rejected']?.[index] ?? []];
    const reference = [inputs['ref_chosen']?.[index], inputs['ref_rejected']?.[index]];
    return {
      policy,
      reference: reference[0] === undefined ? null : reference.map((list) => list ?? []),
      weights: ones(policy),
    };
  });
const number = (one: Reference, name: string, byDefault: number): number =>
  (one.params[name] as number | null | undefined) ?? byDefault;

function expectNear(actual: unknown, expected: unknown, tolerance = 1e-9): void {
  const [a, b] = [[actual].flat(3) as number[], [expected].flat(3) as number[]];
  expect(a.length).toBe(b.length);
  for (const [index, value] of a.entries())
    expect(Math.abs(value - (b[index] ?? NaN))).toBeLessThanOrEqual(tolerance * Math.max(1, Math.abs(b[index] ?? 0)));
}
const side = (value: ObjectiveValue, index: number): (readonly number[])[] =>
  value.gradients.map((example) => example[index] ?? []);

/** The whole step, and the same cut into parts of one example where the objective allows it. */
function evaluate(objective: Objective, part: ObjectivePart): ObjectiveValue {
  const whole = objective.evaluate(part);
  if (objective.coupled !== true) {
    const parts = [
      ...part.examples.map((example) => objective.evaluate({ ...part, examples: [example], replay: [] })),
      ...part.replay.map((example) => objective.evaluate({ ...part, examples: [], replay: [example] })),
    ];
    expectNear(
      parts.reduce((sum, { loss }) => sum + loss, 0),
      whole.loss,
      1e-12,
    );
    expectNear(parts.map(({ gradients }) => gradients.flat(2)).flat(), whole.gradients.flat(2), 1e-12);
    for (const [name, metric] of Object.entries(whole.metrics))
      expectNear(
        parts.reduce((sum, { metrics }) => sum + (metrics[name] ?? 0), 0),
        metric,
        1e-12,
      );
  }
  return whole;
}
function expectPairs(objective: Objective, one: Reference, value: ObjectiveValue): void {
  expectNear(value.loss, one.expected.loss);
  expectNear(side(value, 0), one.expected['grad_policy_chosen']);
  expectNear(side(value, 1), one.expected['grad_policy_rejected']);
  const { metrics = {} } = one.expected;
  for (const [theirs, ours] of [
    ['rewards/chosen', 'reward_chosen'],
    ['rewards/rejected', 'reward_rejected'],
    ['rewards/margins', 'reward_margin'],
    ['rewards/accuracies', 'reward_accuracy'],
  ] as const)
    if (metrics[theirs] !== undefined) expectNear(value.metrics[ours], metrics[theirs]);
  const each = pairs(one);
  for (const [index, expected] of (one.expected.per_pair_loss ?? []).entries())
    expectNear(objective.evaluate(partOf(each.slice(index, index + 1))).loss, expected);
}

describe('losses and gradients equal the reference to 1e-9', () => {
  it('every reference but distillation is held to here', () => {
    const here = ['sft', 'cpt', 'dpo', 'kto', 'orpo', 'cpo', 'simpo', 'cpo-simpo', 'alphapo'];
    expect(casesOf(...here).length).toBeGreaterThan(100);
    expect(new Set(references.map(({ method }) => method).filter((method) => !here.includes(method)))).toEqual(
      new Set(['distill']),
    );
  });

  it.each(casesOf('sft'))('supervised fine-tuning: %s', (_, one) => {
    const part = partOf(single(one.inputs['policy'] ?? []));
    const items = number(one, 'num_items_in_batch', part.totals.labelWeights[0] ?? 0);
    const objective = sftObjective({ replayWeight: 1, loss: one.loss_type as 'nll' | 'dft' });
    const value = evaluate(objective, { ...part, totals: { ...part.totals, labelWeights: [items] } });
    expectNear(value.loss, one.expected.loss);
    expectNear(side(value, 0), one.expected['grad_policy']);
  });

  it.each(casesOf('cpt'))('replay as weighted token mean: %s', (_, one) => {
    const part = partOf(single(one.inputs['policy_new'] ?? []), single(one.inputs['policy_replay'] ?? []));
    const value = evaluate(sftObjective({ replayWeight: number(one, 'replay_weight', NaN) }), part);
    expectNear(value.loss, one.expected.loss);
    expectNear(side(value, 0), one.expected['grad_policy_new']);
    expectNear(value.replayGradients.flat(), one.expected['grad_policy_replay']);
  });

  it.each(casesOf('dpo'))('preference against a reference: %s', (_, one) => {
    const { params } = one;
    const objective = dpoObjective({
      beta: number(one, 'beta', NaN),
      labelSmoothing: number(one, 'label_smoothing', 0),
      nllWeight: 0,
      replayWeight: 1,
      loss: one.loss_type as NonNullable<PreferenceParameters['loss']>,
      lossWeights: (params['loss_weights'] as readonly number[] | undefined) ?? null,
      ldAlpha: (params['ld_alpha'] as number | undefined) ?? null,
      divergence: (params['f_divergence_type'] as 'forward_kl' | undefined) ?? 'reverse_kl',
      discopopTau: (params['discopop_tau'] as number | undefined) ?? null,
    });
    expectPairs(objective, one, evaluate(objective, partOf(pairs(one))));
  });

  it.each(casesOf('kto'))('single answers: %s', (_, one) => {
    const { inputs } = one;
    const objective = ktoObjective({
      beta: number(one, 'beta', NaN),
      loss: one.loss_type as ProspectParameters['loss'],
      desirableWeight: number(one, 'desirable_weight', NaN),
      undesirableWeight: number(one, 'undesirable_weight', NaN),
      replayWeight: 1,
    });
    const examples = (inputs['policy'] ?? []).map((list, index) => ({
      policy: [list],
      reference: [inputs['ref']?.[index] ?? []],
      weights: ones([list]),
      desirable: inputs.labels?.[index] === true,
    }));
    const mismatched = (inputs['policy_kl'] ?? []).map((policy, index) => ({
      policy,
      reference: inputs['ref_kl']?.[index] ?? [],
    }));
    const value = evaluate(objective, partOf(examples, [], { mismatched }));
    expectNear(value.loss, one.expected.loss);
    expectNear(side(value, 0), one.expected['grad_policy']);
    expectNear(value.metrics['kl'] ?? 0, one.expected['kl']);
    const { metrics = {} } = one.expected;
    expect([value.metrics['reward_desirable'], value.metrics['reward_undesirable']]).toEqual(
      [metrics['rewards/chosen'], metrics['rewards/rejected']].map((x) =>
        x === undefined ? undefined : (expect.closeTo(x, 9) as number),
      ),
    );
  });

  it.each(casesOf('orpo'))('odds ratio, computed in f32 by the reference, hence 3e-6: %s', (_, one) => {
    const { inputs, expected } = one;
    const examples = pairs(one).map((example, index): ObjectiveExample => {
      const prompt = inputs['policy_chosen_prompt']?.[index] ?? [];
      const policy = [[...prompt, ...Array.from(example.policy[0] ?? [])], Array.from(example.policy[1] ?? [])];
      return { policy, reference: null, weights: ones(policy), promptTokens: [prompt.length, 0] };
    });
    const value = evaluate(orpoObjective({ beta: number(one, 'beta', NaN), replayWeight: 1 }), partOf(examples));
    expectNear(value.loss, expected.loss, 3e-6);
    const [chosen, prompts] = [
      expected['grad_policy_chosen'] as Ragged,
      expected['grad_policy_chosen_prompt'] as Ragged,
    ];
    expectNear(
      side(value, 0),
      prompts.map((prompt, index) => [...prompt, ...(chosen[index] ?? [])]),
      3e-6,
    );
    expectNear(side(value, 1), expected['grad_policy_rejected'], 3e-6);
    for (const name of ['chosen', 'rejected'])
      expectNear(value.metrics[`reward_${name}`], expected.metrics?.[`rewards/${name}`], 3e-6);
  });

  it.each(casesOf('cpo', 'simpo', 'cpo-simpo', 'alphapo'))('without a reference: %s', (_, one) => {
    const shared = {
      beta: number(one, 'beta', NaN),
      labelSmoothing: number(one, 'label_smoothing', 0),
      replayWeight: 1,
    };
    const [gamma, nllWeight, alpha] = [
      number(one, 'simpo_gamma', NaN),
      number(one, 'cpo_alpha', NaN),
      number(one, 'alpha', NaN),
    ];
    const objective = {
      cpo: () => cpoObjective({ ...shared, nllWeight, loss: one.loss_type as CpoParameters['loss'] }),
      simpo: () => simpoObjective({ ...shared, gamma }),
      'cpo-simpo': () => cpoSimpoObjective({ ...shared, gamma, nllWeight }),
      alphapo: () => alphapoObjective({ ...shared, gamma, alpha }),
    }[one.method as 'cpo' | 'simpo' | 'cpo-simpo' | 'alphapo']();
    const reshaped = one.method === 'alphapo' ? { ...one, expected: { ...one.expected, metrics: {} } } : one;
    expectPairs(objective, reshaped, evaluate(objective, partOf(pairs(one))));
  });
});
