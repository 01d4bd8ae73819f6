import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Objective, ObjectiveExample, ObjectivePart } from '../../src/contracts/index.ts';
import { alphapoObjective } from '../../trainers/alphapo.ts';
import { cpoObjective } from '../../trainers/cpo.ts';
import { cpoSimpoObjective } from '../../trainers/cpo-simpo.ts';
import { dpoObjective } from '../../trainers/dpo.ts';
import { ktoObjective } from '../../trainers/kto.ts';
import { lossTypes, type PairLossName } from '../../trainers/lib/preference/loss-types.ts';
import type { PreferenceParameters } from '../../trainers/lib/preference/parameters.ts';
import { orpoObjective } from '../../trainers/orpo.ts';
import { rewardObjective } from '../../trainers/reward.ts';
import { sftObjective } from '../../trainers/sft.ts';
import { simpoObjective } from '../../trainers/simpo.ts';
import { partOf } from './parts.ts';

const names = Object.keys(lossTypes) as PairLossName[];
const smoothed = (name: PairLossName): number => ('smoothed' in lossTypes[name] ? 0.1 : 0);
const dpo = (change: Partial<PreferenceParameters>): Objective =>
  dpoObjective({ beta: 0.5, nllWeight: 0.7, labelSmoothing: 0, replayWeight: 0.4, ...change });
const divergences = ['forward_kl', 'js_divergence', 'alpha_divergence'] as const;
const free = { beta: 2, gamma: 1, labelSmoothing: 0.1, replayWeight: 0.4 };
const cpo = { beta: 0.5, labelSmoothing: 0, nllWeight: 0.7, replayWeight: 0.4 };
const kto = { beta: 0.5, desirableWeight: 1.3, undesirableWeight: 0.6, replayWeight: 0.4 };

const preferences: readonly (readonly [string, Objective])[] = [
  ...names.map((loss) => [`dpo ${loss}`, dpo({ loss, labelSmoothing: smoothed(loss) })] as const),
  ...divergences.map((divergence) => [`dpo under ${divergence}`, dpo({ divergence })] as const),
  ['dpo with ldAlpha', dpo({ ldAlpha: 0.3, loss: ['sigmoid', 'ipo'], lossWeights: [0.4, 2] })],
  ['dpo of three losses', dpo({ loss: ['sigmoid', 'bco_pair', 'sft'], lossWeights: [0.8, 0.2, 1], nllWeight: 0 })],
  ['cpo', cpoObjective({ ...cpo, loss: 'sigmoid', labelSmoothing: 0.1 })],
  ['cpo hinge', cpoObjective({ ...cpo, loss: 'hinge' })],
  ['cpo ipo', cpoObjective({ ...cpo, loss: 'ipo' })],
  ['simpo', simpoObjective(free)],
  ['cpo-simpo', cpoSimpoObjective({ ...free, nllWeight: 0.5 })],
  ['alphapo', alphapoObjective({ ...free, alpha: 0.25 })],
  ['alphapo below 0', alphapoObjective({ ...free, alpha: -0.5 })],
  ['orpo', orpoObjective({ beta: 0.5, replayWeight: 0.4 })],
];
const objectives: readonly (readonly [string, Objective])[] = [
  ['sft', sftObjective({ replayWeight: 0.3 })],
  ...preferences,
  ['kto', ktoObjective({ ...kto, loss: 'kto' })],
  ['apo_zero_unpaired', ktoObjective({ ...kto, loss: 'apo_zero_unpaired' })],
  ['reward', rewardObjective({ margin: 0.3, centering: 0.05 })],
];

interface Given {
  readonly policy: number[];
  readonly weight: number;
  readonly shift: number;
}
const answer: fc.Arbitrary<Given> = fc.record({
  policy: fc.array(fc.double({ min: -8, max: -0.01, noNaN: true }), { minLength: 1, maxLength: 4 }),
  weight: fc.double({ min: 0.1, max: 1, noNaN: true }),
  shift: fc.double({ min: -0.5, max: 0.5, noNaN: true }),
});
const step = fc.array(fc.tuple(answer, answer, fc.boolean()), { minLength: 1, maxLength: 4 });
const replays = fc.array(answer, { maxLength: 2 });

/** A step as the loop would hand it over to the objective. */
function partFor(
  objective: Objective,
  given: readonly (readonly [Given, Given, boolean])[],
  replayed: readonly Given[] = [],
): ObjectivePart {
  const reward = objective.head === 'reward';
  const example = (sequences: readonly Given[], desirable?: boolean): ObjectiveExample => ({
    policy: sequences.map(({ policy }) => (reward ? policy.slice(0, 1) : [...policy])),
    reference: objective.reference
      ? sequences.map(({ policy, shift }) => policy.map((value) => Math.min(0, value + shift)))
      : null,
    weights: sequences.map(({ policy, weight }) => policy.map(() => weight)),
    ...(objective.promptLabels === true ? { promptTokens: [sequences[0]?.policy.length === 1 ? 0 : 1, 0] } : {}),
    ...(desirable === undefined ? {} : { desirable }),
  });
  const examples = given.map(([first, second, flag]) =>
    objective.sequences === 'pair'
      ? example([first, second])
      : example([first], objective.sequences === 'labelled' ? flag : undefined),
  );
  const mismatched = given.map(([, other]) => ({
    policy: other.policy.map((value) => value + 0.1),
    reference: other.policy,
  }));
  return partOf(
    examples,
    reward ? [] : replayed.map((one) => ({ ...example([one]), reference: null })),
    objective.mismatched === true ? { mismatched } : {},
  );
}

/** Whether two examples have nearly the same sum, ratio or margin. */
function tied(part: ObjectivePart): boolean {
  const total = (list: ArrayLike<number> = []): number => Array.from(list).reduce((sum, value) => sum + value, 0);
  const quantities = part.examples.map(({ policy, reference }) => {
    const ratios = [0, 1].map((side) => total(policy[side]) - total(reference?.[side]));
    return [...ratios, total(policy[0]) - total(policy[1]), total(reference?.[0]) - total(reference?.[1])];
  });
  return quantities.some((one, index) =>
    quantities.slice(0, index).some((other) => one.some((value, at) => Math.abs(value - (other[at] ?? NaN)) < 1e-3)),
  );
}

describe('gradients', () => {
  it.each(objectives)('of %s are those of central differences', (_, objective) => {
    fc.assert(
      fc.property(step, replays, (given, replayed) => {
        const part = partFor(objective, given, replayed);
        // Where two of the sorted quantities are equal, a sum over ranks has no derivative.
        fc.pre(objective.coupled !== true || !tied(part));
        const value = objective.evaluate(part);
        const h = 1e-5;
        const check = (list: number[], gradient: readonly number[] = []): void => {
          expect(gradient).toHaveLength(list.length);
          const misses = list.map((at, token) => {
            const [up, down] = [at + h, at - h].map((moved) => {
              list[token] = moved;
              return objective.evaluate(part).loss;
            }) as [number, number];
            list[token] = at;
            const own = gradient[token] ?? NaN;
            return Math.abs((up - down) / (2 * h) - own) / Math.max(1, Math.abs(own));
          });
          expect(Math.max(...misses)).toBeLessThan(1e-6);
        };
        for (const [index, { policy }] of part.examples.entries())
          for (const [sequence, list] of policy.entries()) check(list as number[], value.gradients[index]?.[sequence]);
        for (const [index, { policy }] of part.replay.entries())
          check(policy[0] as number[], value.replayGradients[index]?.[0]);
      }),
      { numRuns: 20, seed: 7 },
    );
  });

  it.each(objectives.filter(([, { coupled }]) => coupled !== true))(
    'of %s add up over micro-batches',
    (_, objective) => {
      fc.assert(
        fc.property(step, replays, (given, replayed) => {
          const part = partFor(objective, given, replayed);
          const whole = objective.evaluate(part);
          const cut = Math.floor(part.examples.length / 2);
          const parts = [
            objective.evaluate({ ...part, examples: part.examples.slice(0, cut), replay: [] }),
            objective.evaluate({ ...part, examples: part.examples.slice(cut) }),
          ];
          expect(parts.reduce((sum, { loss }) => sum + loss, 0)).toBeCloseTo(whole.loss, 9);
          expect(parts.flatMap(({ gradients }) => gradients)).toEqual(whole.gradients);
          expect(parts.flatMap(({ replayGradients }) => replayGradients)).toEqual(whole.replayGradients);
          for (const [name, metric] of Object.entries(whole.metrics))
            expect(parts.reduce((sum, { metrics }) => sum + (metrics[name] ?? 0), 0)).toBeCloseTo(metric, 9);
        }),
        { numRuns: 20, seed: 11 },
      );
    },
  );

  const extremes = [
    [[-5000], [-0.001]],
    [[-0.001], [-5000]],
    [[0], [0]],
    [
      [0, 0],
      [-5000, -5000, -5000],
    ],
    [[-1e-30, 0], [-1e-8]],
  ];
  it.each(objectives)('of %s are finite in f32 and keep their shape where margins are extreme', (_, objective) => {
    for (const [policy, reference] of extremes.flatMap((one) => extremes.map((other) => [one, other] as const))) {
      const sequences = objective.sequences === 'pair' ? [0, 1] : [0];
      for (const desirable of [true, false]) {
        const example: ObjectiveExample = {
          policy: sequences.map((index) => policy[index] ?? []),
          reference: sequences.map((index) => (policy[index] ?? []).map((x, at) => reference[index]?.[at] ?? x)),
          weights: sequences.map((index) => (policy[index] ?? []).map(() => 1)),
          promptTokens: [0, 0],
          desirable,
        };
        const mismatched = [0, 1].map(() => ({ policy: policy[0] ?? [], reference: reference[0] ?? [] }));
        const value = objective.evaluate(partOf([example], [], { mismatched }));
        expect([value.loss, ...value.gradients.flat(2)].map(Math.fround).every(Number.isFinite)).toBe(true);
        const shape = example.policy.map((list) => (objective.head === 'reward' ? 1 : list.length));
        expect(value.gradients[0]?.map((list) => list.length)).toEqual(shape);
      }
    }
  });
});

describe('dynamic fine-tuning', () => {
  it('has the gradient of −p log p with p held fixed', () => {
    const part = partOf([{ policy: [[-0.5, -2]], reference: null, weights: [[1, 0.25]] }]);
    const { loss, gradients } = sftObjective({ replayWeight: 1, loss: 'dft' }).evaluate(part);
    expect(loss).toBeCloseTo((0.5 * Math.exp(-0.5) + 0.25 * 2 * Math.exp(-2)) / 1.25, 14);
    expect(gradients[0]?.[0]?.[0]).toBeCloseTo(-Math.exp(-0.5) / 1.25, 14);
    expect(gradients[0]?.[0]?.[1]).toBeCloseTo((-0.25 * Math.exp(-2)) / 1.25, 14);
  });
});

describe('properties', () => {
  it('a message of twice the weight pulls twice as hard', () => {
    const part = partOf([
      { policy: [[-1, -2]], reference: null, weights: [[1, 1]] },
      { policy: [[-1, -2]], reference: null, weights: [[2, 2]] },
    ]);
    const { gradients } = sftObjective({ replayWeight: 1 }).evaluate(part);
    expect(gradients[1]?.[0]).toEqual(gradients[0]?.[0]?.map((gradient) => 2 * gradient));
  });

  const [log2, beta, e] = [Math.LN2, 0.5, 0.1];
  const atReference: Readonly<Record<PairLossName, number>> = {
    sigmoid: log2,
    sigmoid_norm: log2,
    robust: log2,
    aot: log2,
    aot_unpaired: log2,
    hinge: 1,
    apo_zero: 1,
    apo_down: 1,
    nca_pair: 2 * log2,
    bco_pair: 2 * log2,
    ipo: 1 / (4 * beta * beta),
    sppo_hard: 1 / (2 * beta * beta),
    discopop: 0.5 * log2 + 0.5,
    exo_pair: -log2 - 0.5 * (Math.log1p(-e) + Math.log(e)),
  };
  it.each(names)('the loss %s of a policy that is its own reference is known beforehand', (loss) => {
    fc.assert(
      fc.property(step, (given) => {
        const objective = dpo({ loss, nllWeight: 0, labelSmoothing: smoothed(loss) });
        const still = given.map(([a, b, flag]) => [{ ...a, shift: 0 }, { ...b, shift: 0 }, flag] as const);
        const value = objective.evaluate(partFor(objective, still));
        expect(value.loss).toBeCloseTo(atReference[loss], loss === 'exo_pair' ? 6 : 12);
        expect(value.metrics['reward_margin']).toBe(0);
      }),
      { numRuns: 20, seed: 3 },
    );
  });

  it.each(['sigmoid', 'robust', 'exo_pair', 'hinge', 'discopop', 'sigmoid_norm', 'ipo', 'aot'] as const)(
    'the loss %s sees the margin alone: what lifts the chosen answer lowers the rejected one by as much',
    (loss) => {
      fc.assert(
        fc.property(step, (given) => {
          const objective = dpo({ loss, nllWeight: 0, labelSmoothing: smoothed(loss) });
          const { gradients } = objective.evaluate(partFor(objective, given));
          for (const [chosen, rejected] of gradients) {
            const total = (list: readonly number[] = []): number => {
              const perToken = loss === 'ipo' || loss === 'sigmoid_norm' ? list.length : 1;
              return (list[0] ?? 0) * perToken;
            };
            expect(total(chosen)).toBeCloseTo(-total(rejected), 12);
          }
        }),
        { numRuns: 20, seed: 5 },
      );
    },
  );

  it('swapping chosen and rejected turns the margin round, and costs the margin itself', () => {
    fc.assert(
      fc.property(step, (given) => {
        const objective = dpo({ nllWeight: 0 });
        const [one, other] = [given, given.map(([a, b, flag]) => [b, a, flag] as const)].map((pairs) =>
          objective.evaluate(partFor(objective, pairs)),
        );
        const margin = one?.metrics['reward_margin'] ?? NaN;
        expect(other?.metrics['reward_margin']).toBeCloseTo(-margin, 12);
        expect((other?.loss ?? NaN) - (one?.loss ?? NaN)).toBeCloseTo(margin, 10);
      }),
      { numRuns: 50, seed: 9 },
    );
  });

  it('label smoothing is honoured, also where TRL reads over it', () => {
    const part = partFor(dpo({}), [[...pair(-1, -3), true]]);
    const [sharp, smooth] = [0, 0.2].map((labelSmoothing) => dpo({ labelSmoothing, nllWeight: 0 }).evaluate(part).loss);
    expect(smooth).toBeGreaterThan(sharp ?? NaN);
  });

  it('simpo is cpo-simpo without likelihood, and alphapo with a vanishing α', () => {
    const part = partFor(simpoObjective(free), [[...pair(-1, -3), true]]);
    const { loss } = simpoObjective(free).evaluate(part);
    expect(cpoSimpoObjective({ ...free, nllWeight: 0 }).evaluate(part).loss).toBe(loss);
    expect(alphapoObjective({ ...free, alpha: 1e-7 }).evaluate(part).loss).toBeCloseTo(loss, 5);
  });

  it('kto weighs desirable and undesirable answers, and no divergence is taken from a step of one', () => {
    const objective = ktoObjective({ ...kto, loss: 'kto', desirableWeight: 3, undesirableWeight: 1 });
    const given = [-1, -1].map((value, index) => [...pair(value, value), index === 0] as const);
    const still = given.map(([a, b, flag]) => [{ ...a, shift: 0 }, { ...b, shift: 0 }, flag] as const);
    const part = partFor(objective, still);
    const { gradients } = objective.evaluate({ ...part, totals: { ...part.totals, mismatched: [] } });
    expect(gradients[0]?.[0]?.[0]).toBeCloseTo(-3 * (gradients[1]?.[0]?.[0] ?? NaN), 14);
    const mismatched = [{ policy: [-1], reference: [-9] }];
    const alone = objective.evaluate({ ...part, totals: { ...part.totals, mismatched } });
    expect(alone.metrics['kl']).toBe(0);
    expect(
      objective.evaluate({ ...part, totals: { ...part.totals, mismatched: [...mismatched, ...mismatched] } }).metrics[
        'kl'
      ],
    ).toBe(8);
  });

  it('orpo learns the prompt by its likelihood, and compares answers without it', () => {
    const objective = orpoObjective({ beta: 1, replayWeight: 1 });
    const answers = { policy: [[-5, -1], [-2]], reference: null, weights: [[1, 1], [1]], promptTokens: [1, 0] };
    const moved = { ...answers, policy: [[-3, -1], [-2]] };
    const [one, other] = [answers, moved].map((example) => objective.evaluate(partOf([example])));
    expect(other?.metrics['log_odds_ratio']).toBe(one?.metrics['log_odds_ratio']);
    expect((one?.loss ?? NaN) - (other?.loss ?? NaN)).toBeCloseTo(1, 12);
    expect(one?.gradients[0]?.[0]?.[0]).toBe(-0.5);
  });

  it('the reward model is asked for a lead, and its rewards are pulled to 0', () => {
    const example: ObjectiveExample = { policy: [[2], [1]], reference: null, weights: [[], []] };
    const { loss, metrics } = rewardObjective({ margin: 0.5, centering: 0.01 }).evaluate(partOf([example]));
    expect(loss).toBeCloseTo(Math.log1p(Math.exp(-0.5)) + 0.09, 14);
    expect(metrics).toEqual({ reward_margin: 1, reward_accuracy: 1, reward_chosen: 2, reward_rejected: 1 });
  });

  function pair(chosen: number, rejected: number): [Given, Given] {
    return [chosen, rejected].map((value, index) => ({
      policy: [value],
      weight: 1,
      shift: index === 0 ? -0.4 : 0.3,
    })) as [Given, Given];
  }
});
