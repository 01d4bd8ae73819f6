import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Objective, ObjectiveExample, ObjectivePart, ObjectiveValue } from '../../src/contracts/index.ts';
import { dpoObjective } from '../../trainers/dpo.ts';
import { sftObjective } from '../../trainers/sft.ts';

type Ragged = readonly (readonly number[])[];
interface Reference {
  readonly id: string;
  readonly method: string;
  readonly loss_type: string | readonly string[];
  readonly params: {
    readonly num_items_in_batch?: number | null;
    readonly replay_weight?: number;
    readonly beta?: number;
    readonly label_smoothing?: number;
    readonly loss_weights?: readonly number[];
  };
  readonly inputs: Readonly<Record<string, Ragged>>;
  readonly expected: {
    readonly loss: number;
    readonly per_pair_loss?: readonly number[];
    readonly metrics?: Readonly<Record<string, number>>;
  } & Readonly<Record<string, unknown>>;
}
const file = new URL('../../fixtures/reference/losses/losses.jsonl', import.meta.url);
const references = readFileSync(file, 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as Reference);
const casesOf = (method: string): (readonly [string, Reference])[] =>
  references.filter((one) => one.method === method).map((one) => [one.id, one] as const);

const ones = (lists: Ragged): number[][] => lists.map((list) => list.map(() => 1));
const single = (lists: Ragged): ObjectiveExample[] =>
  lists.map((list) => ({ policy: [list], reference: null, weights: ones([list]) }));
const pairs = (inputs: Reference['inputs']): ObjectiveExample[] =>
  (inputs['policy_chosen'] ?? []).map((chosen, index) => {
    const policy = [chosen, inputs['policy_rejected']?.[index] ?? []];
    return {
      policy,
      reference: [inputs['ref_chosen']?.[index] ?? [], inputs['ref_rejected']?.[index] ?? []],
      weights: ones(policy),
    };
  });
const count = (examples: readonly ObjectiveExample[], sequence: number): number =>
  examples.reduce((sum, { weights }) => sum + Array.from(weights[sequence] ?? []).reduce((a, b) => a + b, 0), 0);
const partOf = (examples: readonly ObjectiveExample[], replay: readonly ObjectiveExample[] = []): ObjectivePart => ({
  examples,
  replay,
  totals: {
    examples: examples.length,
    labelWeights: [count(examples, 0), count(examples, 1)],
    replayLabelWeight: count(replay, 0),
  },
});
function expectNear(actual: unknown, expected: unknown): void {
  const [a, b] = [[actual].flat(3) as number[], [expected].flat(3) as number[]];
  expect(a.length).toBe(b.length);
  for (const [index, value] of a.entries())
    expect(Math.abs(value - (b[index] ?? NaN))).toBeLessThanOrEqual(1e-9 * Math.max(1, Math.abs(b[index] ?? 0)));
}
const side = (value: ObjectiveValue, index: number): (readonly number[])[] =>
  value.gradients.map((example) => example[index] ?? []);

describe('losses equal the reference to 1e-9', () => {
  it('has twenty references', () => expect(references).toHaveLength(20));

  it.each(casesOf('sft'))('supervised fine-tuning: %s', (_, one) => {
    const part = partOf(single(one.inputs['policy'] ?? []));
    const items = one.params.num_items_in_batch ?? part.totals.labelWeights[0] ?? 0;
    const value = sftObjective({ replayWeight: 1 }).evaluate({
      ...part,
      totals: { ...part.totals, labelWeights: [items] },
    });
    expectNear(value.loss, one.expected.loss);
    expectNear(side(value, 0), one.expected['grad_policy']);
  });

  it.each(casesOf('cpt'))('replay as weighted token mean: %s', (_, one) => {
    const part = partOf(single(one.inputs['policy_new'] ?? []), single(one.inputs['policy_replay'] ?? []));
    const value = sftObjective({ replayWeight: one.params.replay_weight ?? NaN }).evaluate(part);
    expectNear(value.loss, one.expected.loss);
    expectNear(side(value, 0), one.expected['grad_policy_new']);
    expectNear(value.replayGradients.flat(), one.expected['grad_policy_replay']);
  });

  it.each(casesOf('dpo').filter(([, one]) => one.loss_type !== 'sft'))('preference: %s', (_, one) => {
    const { beta = NaN, label_smoothing: labelSmoothing = 0, loss_weights: weights = [1, 0] } = one.params;
    const objective = dpoObjective({ beta, labelSmoothing, nllWeight: weights[1] ?? 0, replayWeight: 1 });
    const examples = pairs(one.inputs);
    const value = objective.evaluate(partOf(examples));
    expectNear(value.loss, one.expected.loss);
    expectNear(side(value, 0), one.expected['grad_policy_chosen']);
    expectNear(side(value, 1), one.expected['grad_policy_rejected']);
    for (const [index, expected] of (one.expected.per_pair_loss ?? []).entries())
      expectNear(objective.evaluate(partOf(examples.slice(index, index + 1))).loss, expected);
  });

  it.each(casesOf('dpo').filter(([, one]) => one.loss_type === 'sft'))(
    'the likelihood term alone is fine-tuning on the chosen answers: %s',
    (_, one) => {
      const value = sftObjective({ replayWeight: 1 }).evaluate(partOf(pairs(one.inputs)));
      expectNear(value.loss, one.expected.loss);
      expectNear(side(value, 0), one.expected['grad_policy_chosen']);
      expectNear(side(value, 1), one.expected['grad_policy_rejected']);
    },
  );
});

describe('gradients', () => {
  const logProbabilities = fc.array(fc.double({ min: -8, max: -0.01, noNaN: true }), { minLength: 1, maxLength: 4 });
  const weighted = fc.tuple(logProbabilities, fc.double({ min: 0.1, max: 1, noNaN: true }));
  const exampleOf = (
    lists: readonly (readonly [number[], number])[],
    reference: readonly number[][] | null,
  ): ObjectiveExample => ({
    policy: lists.map(([policy]) => policy),
    reference,
    weights: lists.map(([policy, weight]) => policy.map(() => weight)),
  });
  const objectives: readonly (readonly [string, Objective])[] = [
    ['sft', sftObjective({ replayWeight: 0.3 })],
    ['dpo', dpoObjective({ beta: 0.5, nllWeight: 0.7, labelSmoothing: 0.1, replayWeight: 0.4 })],
  ];

  it.each(objectives)('of %s are those of central differences', (_, objective) => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(weighted, weighted), { minLength: 1, maxLength: 3 }),
        fc.array(weighted, { maxLength: 2 }),
        (given, replayed) => {
          const examples = given.map(([chosen, rejected]) =>
            exampleOf([chosen, rejected], [chosen[0].map((x) => x - 0.3), rejected[0].map((x) => x * 0.9)]),
          );
          const part = partOf(
            examples,
            replayed.map((one) => exampleOf([one], null)),
          );
          const value = objective.evaluate(part);
          const h = 1e-5;
          const check = (list: number[], gradient: readonly number[]): void => {
            for (const [token, at] of list.entries()) {
              const [up, down] = [at + h, at - h].map((moved) => {
                list[token] = moved;
                return objective.evaluate(part).loss;
              }) as [number, number];
              list[token] = at;
              expect(Math.abs((up - down) / (2 * h) - (gradient[token] ?? NaN))).toBeLessThan(1e-6);
            }
          };
          for (const [index, example] of part.examples.entries()) {
            for (const [sequence, list] of example.policy.entries())
              check(list as number[], value.gradients[index]?.[sequence] ?? []);
          }
          for (const [index, example] of part.replay.entries())
            check(example.policy[0] as number[], value.replayGradients[index]?.[0] ?? []);
        },
      ),
      { numRuns: 50, seed: 7 },
    );
  });

  it.each(objectives)('of %s are finite and keep their shape where margins are extreme', (_, objective) => {
    const example: ObjectiveExample = {
      policy: [[-5000], [-0.001]],
      reference: [[-0.001], [-5000]],
      weights: [[1], [1]],
    };
    const value = objective.evaluate(partOf([example]));
    expect([value.loss, ...value.gradients.flat(2)].every(Number.isFinite)).toBe(true);
    expect(value.gradients.map((one) => one.map((list) => list.length))).toEqual([[1, 1]]);
  });
});
