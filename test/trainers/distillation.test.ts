import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { packageRoot } from '../../src/kit/index.ts';
import { openRegistry } from '../../src/plugins/registry.ts';
import { type DistillationParameters, distillationObjective } from '../../trainers/lib/distillation/objective.ts';

interface Case {
  readonly id: string;
  readonly method: string;
  readonly params: {
    readonly beta?: number;
    readonly temperature: number;
    readonly num_items_in_batch?: number | null;
    readonly k?: number;
    readonly add_tail?: boolean;
  };
  readonly inputs: {
    readonly student_logits: readonly (readonly (readonly number[])[])[];
    readonly teacher_logits?: readonly (readonly (readonly number[])[])[];
    readonly teacher_topk_logprobs?: readonly (readonly (readonly number[])[])[];
    readonly teacher_topk_ids?: readonly (readonly (readonly number[])[])[];
    readonly mask: readonly (readonly number[])[];
  };
  readonly expected: {
    readonly loss: number;
    readonly grad_student_logits: readonly (readonly (readonly number[])[])[];
  };
}

const cases = readFileSync(join(packageRoot(), 'fixtures/reference/losses/losses.jsonl'), 'utf8')
  .split('\n')
  .filter((line) => line !== '')
  .map((line) => JSON.parse(line) as Case)
  .filter(({ method }) => method === 'distill');

function logSoftmax(logits: readonly number[], temperature: number): number[] {
  const scaled = logits.map((value) => value / temperature);
  const top = Math.max(...scaled);
  const sum = Math.log(scaled.reduce((total, value) => total + Math.exp(value - top), 0));
  return scaled.map((value) => value - top - sum);
}

/** Loss, and its gradient by the logits of the student: what the learner does with the gradient of log-probabilities. */
function throughLogits(
  logits: readonly (readonly number[])[],
  teacher: readonly (readonly number[])[],
  ids: readonly (readonly number[])[] | null,
  parameters: DistillationParameters,
  totalWeight: number,
): { loss: number; gradients: number[][] } {
  const student = logits.map((row) => logSoftmax(row, parameters.temperature));
  const listed = ids === null ? student : ids.map((row, token) => row.map((id) => student[token]?.[id] as number));
  const width = listed[0]?.length ?? 0;
  const { loss, gradients } = distillationObjective('1.0.0', parameters).evaluate({
    width,
    student: listed.flat(),
    teacher: teacher.flat(),
    weights: logits.map(() => 1),
    totalWeight,
  });
  return {
    loss,
    gradients: student.map((row, token) => {
      const own = [...gradients.subarray(token * width, (token + 1) * width)];
      const total = own.reduce((sum, value) => sum + value, 0);
      const direct = row.map(() => 0);
      for (const [index, value] of own.entries()) {
        const id = ids?.[token]?.[index] ?? index;
        direct[id] = (direct[id] ?? 0) + value;
      }
      return row.map((value, id) => ((direct[id] ?? 0) - Math.exp(value) * total) / parameters.temperature);
    }),
  };
}

it('there are all reference distillations', () => expect(cases).toHaveLength(20));

it.each(cases)('$id: loss and gradients are those of TRL 1.16, within 1e-6', ({ params, inputs, expected }) => {
  const kept = inputs.mask.flatMap((row, b) => row.flatMap((value, t) => (value === 1 ? [[b, t] as const] : [])));
  const pick = <T>(rows: readonly (readonly T[])[]): T[] => kept.map(([b, t]) => rows[b]?.[t] as T);
  const { beta = 0, temperature, k = null } = params;
  const divergence = beta === 0 ? 'forward-kl' : beta === 1 ? 'reverse-kl' : 'jsd';
  const rest = params.add_tail === false ? 'renormalise' : 'tail';
  const teacher =
    inputs.teacher_logits === undefined
      ? pick(inputs.teacher_topk_logprobs ?? [])
      : pick(inputs.teacher_logits).map((row) => logSoftmax(row, temperature));
  const found = throughLogits(
    pick(inputs.student_logits),
    teacher,
    inputs.teacher_topk_ids === undefined ? null : pick(inputs.teacher_topk_ids),
    { divergence, beta, temperature, topTokens: k, rest },
    params.num_items_in_batch ?? kept.length,
  );
  expect(Math.abs(found.loss - expected.loss)).toBeLessThanOrEqual(1e-6);
  const wanted = pick(expected.grad_student_logits);
  const worst = Math.max(
    ...found.gradients.flatMap((row, token) =>
      row.map((value, id) => Math.abs(value - (wanted[token]?.[id] as number))),
    ),
  );
  expect(worst).toBeLessThanOrEqual(1e-6);
});

describe('distillation', () => {
  const logits = (tokens: number, width: number): fc.Arbitrary<number[][]> =>
    fc.array(fc.array(fc.double({ min: -4, max: 4, noNaN: true }), { minLength: width, maxLength: width }), {
      minLength: tokens,
      maxLength: tokens,
    });
  const shapes: DistillationParameters[] = (['forward-kl', 'reverse-kl', 'jsd'] as const).flatMap((divergence) => [
    { divergence, beta: 0.3, temperature: 1, topTokens: null, rest: 'tail' },
    { divergence, beta: 0.6, temperature: 2.5, topTokens: null, rest: 'tail' },
    { divergence, beta: 0.3, temperature: 1, topTokens: 3, rest: 'tail' },
    { divergence, beta: 0.3, temperature: 0.7, topTokens: 3, rest: 'renormalise' },
  ]);

  const listedOf = (
    teacher: readonly (readonly number[])[],
    { temperature, topTokens }: DistillationParameters,
  ): { ids: number[][] | null; taught: number[][] } => {
    const all = teacher.map((row) => logSoftmax(row, temperature));
    if (topTokens === null) return { ids: null, taught: all };
    const ids = all.map((row) =>
      [...row.keys()].sort((a, b) => (row[b] as number) - (row[a] as number)).slice(0, topTokens),
    );
    return { ids, taught: ids.map((row, token) => row.map((id) => all[token]?.[id] as number)) };
  };

  it.each(shapes)(
    '$divergence, top $topTokens, $rest, temperature $temperature: the gradient is that of the loss',
    (parameters) => {
      fc.assert(
        fc.property(logits(2, 6), logits(2, 6), fc.nat(1), fc.nat(5), (student, teacher, token, id) => {
          const { ids, taught } = listedOf(teacher, parameters);
          const at = (change: number): number => {
            const moved = student.map((row, t) =>
              row.map((value, i) => (t === token && i === id ? value + change : value)),
            );
            return throughLogits(moved, taught, ids, parameters, 2).loss;
          };
          const h = 1e-4;
          const numerical = (at(h) - at(-h)) / (2 * h);
          const { gradients } = throughLogits(student, taught, ids, parameters, 2);
          // Central differences lose about h², and gradients are f32.
          expect(Math.abs(numerical - (gradients[token]?.[id] as number))).toBeLessThan(2e-5);
        }),
        { numRuns: 40 },
      );
    },
  );

  it.each(shapes)(
    '$divergence, top $topTokens, $rest: is zero for the teacher itself, and above else',
    (parameters) => {
      fc.assert(
        fc.property(logits(2, 6), logits(2, 6), (student, teacher) => {
          const { ids, taught } = listedOf(teacher, parameters);
          expect(Math.abs(throughLogits(teacher, taught, ids, parameters, 2).loss)).toBeLessThan(1e-9);
          expect(throughLogits(student, taught, ids, parameters, 2).loss).toBeGreaterThan(-1e-9);
        }),
        { numRuns: 40 },
      );
    },
  );

  it('adds up over parts, by the weights of the tokens', () => {
    const parameters = shapes[0] as DistillationParameters;
    const objective = distillationObjective('1.0.0', parameters);
    const [student, teacher] = [
      [0.2, -1, 0.4, 2, 0, 1],
      [1, 0, -1, 0.5, 0.5, 0],
    ].map((row) => [...logSoftmax(row.slice(0, 3), 1), ...logSoftmax(row.slice(3), 1)]) as [number[], number[]];
    const whole = objective.evaluate({ width: 3, student, teacher, weights: [1, 0.5], totalWeight: 1.5 });
    const parts = [0, 1].map((token) =>
      objective.evaluate({
        width: 3,
        student: student.slice(3 * token, 3 * token + 3),
        teacher: teacher.slice(3 * token, 3 * token + 3),
        weights: [token === 0 ? 1 : 0.5],
        totalWeight: 1.5,
      }),
    );
    expect(parts.reduce((sum, { loss }) => sum + loss, 0)).toBeCloseTo(whole.loss, 12);
    expect(parts.flatMap(({ gradients }) => [...gradients])).toEqual([...whole.gradients]);
    expect(parts.reduce((sum, { metrics }) => sum + (metrics['forward_kl'] ?? 0), 0)).toBeCloseTo(
      whole.metrics['forward_kl'] ?? 0,
      12,
    );
  });

  it('says which checkpoint it wants as a teacher', async () => {
    const trainer = await (await openRegistry()).load('trainer', 'distillation');
    expect(trainer.teacher?.({ teacher: 'large' })).toBe('large');
    expect(trainer.teacher?.({})).toBeNull();
  });
});
