import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Learner, Model, Objective, Recipe, TrainEvent, TrainingRow } from '../../src/contracts/index.ts';
import native from '../../engines/native/index.ts';
import { readTrainingRows } from '../../src/data/index.ts';
import { packageRoot } from '../../src/kit/index.ts';
import { type Example, prepareExamples, trainLoop } from '../../src/train/index.ts';
import { dpoObjective } from '../../trainers/dpo.ts';
import { sftObjective } from '../../trainers/sft.ts';

interface Expected {
  readonly sft_tokenized: readonly { readonly input_ids: readonly number[]; readonly labels: readonly number[] }[];
  readonly dpo_tokenized: readonly {
    readonly prompt_ids: readonly number[];
    readonly chosen_ids: readonly number[];
    readonly rejected_ids: readonly number[];
  }[];
  readonly sft: Log;
  readonly sft_accum2: Log;
  readonly dpo: Log;
  readonly dpo_ipo: Log;
}
interface Log {
  readonly log: readonly Readonly<Record<string, number>>[];
}
const folder = join(packageRoot(), 'fixtures/reference/e2e');
const expected = JSON.parse(readFileSync(join(folder, 'expected.json'), 'utf8')) as Expected;
const recipe: Recipe = {
  epochs: 1,
  batchSize: 4,
  microBatchTokens: 4096,
  learningRate: 2e-3,
  schedule: 'cosine',
  warmupSteps: 1,
  weightDecay: 0.01,
  maxGradNorm: 1,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  order: 'file',
  overlong: 'error',
  dtype: 'f32',
  maxSteps: null,
  maxTokens: null,
  tuning: { kind: 'full' },
  compute: 'f32',
  recompute: false,
  checkpoints: null,
};
const sft = sftObjective({ replayWeight: 1 });
const dpo = dpoObjective({ beta: 0.1, nllWeight: 0, labelSmoothing: 0, replayWeight: 0 });

let model: Model;
let rows: readonly TrainingRow[];
let pairs: readonly TrainingRow[];
beforeAll(async () => {
  model = await native.open({ id: 'reference', path: folder }, { threads: 1 });
  rows = await readTrainingRows(join(folder, 'sft.jsonl'));
  pairs = await readTrainingRows(join(folder, 'dpo.jsonl'));
});
afterAll(() => model.close());

/** Tensors of a safetensors file, as f32. */
function tensorsOf(file: string): Map<string, Float32Array> {
  const bytes = readFileSync(join(folder, file));
  const headerLength = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + headerLength).toString()) as Record<
    string,
    { data_offsets: [number, number] }
  >;
  return new Map(
    Object.entries(header)
      .filter(([name]) => name !== '__metadata__')
      .map(
        ([
          name,
          {
            data_offsets: [start, end],
          },
        ]) => [
          name,
          new Float32Array(
            bytes.buffer.slice(bytes.byteOffset + 8 + headerLength + start, bytes.byteOffset + 8 + headerLength + end),
          ),
        ],
      ),
  );
}
type Steps = Extract<TrainEvent, { type: 'step' }>[];
async function train(
  objective: Objective,
  examples: readonly Example[],
  change: Partial<Recipe> = {},
  threads = 1,
): Promise<{ steps: Steps; weights: Map<string, Float32Array> }> {
  const learner = (await model.learner?.({ threads })) as Learner;
  const steps: Steps = [];
  await trainLoop(
    { learner, objective, recipe: { ...recipe, ...change }, examples, replay: null, seed: 1 },
    (event) => event.type === 'step' && steps.push(event),
  );
  const weights = new Map(learner.tensorNames().map((name) => [name, learner.tensor(name, 'weight')]));
  await learner.close();
  return { steps, weights };
}
/** The reference labels the new line after the end of turn too. */
const referencePairs = expected.dpo_tokenized.map(
  ({ prompt_ids: prompt, chosen_ids: chosen, rejected_ids: rejected }, index): Example => ({
    id: `${index}`,
    sequences: [chosen, rejected].map((answer) => ({
      tokens: Int32Array.from([...prompt, ...answer]),
      weights: Float64Array.from([...prompt.map(() => 0), ...answer.map(() => 1)]),
      labelledTokens: answer.length,
      promptLength: prompt.length,
    })),
  }),
);
function expectLog(steps: Steps, log: readonly Readonly<Record<string, number>>[]): void {
  expect(steps).toHaveLength(5);
  for (const [index, { loss, metrics }] of steps.entries()) {
    const line = log[index];
    expect(Math.abs(loss / (line?.['loss'] ?? NaN) - 1)).toBeLessThan(1e-4);
    expect(Math.abs((metrics['gradient_norm'] ?? NaN) / (line?.['grad_norm'] ?? NaN) - 1)).toBeLessThan(1e-3);
    expect(metrics['learning_rate']).toBeCloseTo(line?.['learning_rate'] ?? NaN, 12);
  }
}
function expectWeights(weights: ReadonlyMap<string, Float32Array>, file: string): void {
  let [all, far] = [0, 0];
  for (const [name, values] of tensorsOf(file)) {
    const own = weights.get(name);
    expect([name, own?.length]).toEqual([name, values.length]);
    for (const [index, value] of values.entries()) if (!(Math.abs((own?.[index] ?? NaN) - value) <= 2e-4)) far++;
    all += values.length;
  }
  expect(all).toBeGreaterThan(80_000);
  expect(far / all).toBeLessThanOrEqual(1e-3);
}

describe('a whole run against the reference (TRL 1.16.0)', () => {
  it('trains on the same tokens with the same labels', () => {
    const examples = prepareExamples(model, rows, sft, recipe);
    expect(examples).toHaveLength(expected.sft_tokenized.length);
    for (const [index, { input_ids: ids, labels }] of expected.sft_tokenized.entries()) {
      const sequence = examples[index]?.sequences[0];
      expect([...(sequence?.tokens ?? [])]).toEqual(ids);
      expect([...(sequence?.weights ?? [])]).toEqual(labels.map((label) => (label === -100 ? 0 : 1)));
    }
  });

  it('fine-tunes as the reference: loss, gradient norm and weights', async () => {
    const { steps, weights } = await train(sft, prepareExamples(model, rows, sft, recipe));
    expectLog(steps, expected.sft.log);
    expectWeights(weights, 'after_sft5.safetensors');
  });

  it('fine-tunes the same in parts as in one batch, as the reference does with 2 × 2 accumulation', async () => {
    const examples = prepareExamples(model, rows, sft, recipe);
    const whole = await train(sft, examples);
    for (const microBatchTokens of [1, 260]) {
      const { steps, weights } = await train(sft, examples, { microBatchTokens });
      expectLog(steps, expected.sft_accum2.log);
      expectWeights(weights, 'after_sft5.safetensors');
      for (const [index, { loss }] of steps.entries())
        expect(Math.abs(loss / (whole.steps[index]?.loss ?? NaN) - 1)).toBeLessThan(1e-5);
    }
  });

  it('tunes on preferences as the reference', async () => {
    const { steps, weights } = await train(dpo, referencePairs);
    expectLog(steps, expected.dpo.log);
    expectWeights(weights, 'after_dpo5.safetensors');
    for (const [index, { metrics }] of steps.entries()) {
      const line = expected.dpo.log[index];
      expect(metrics['reward_margin']).toBeCloseTo(line?.['rewards/margins'] ?? NaN, 3);
      expect(metrics['reward_accuracy']).toBe(line?.['rewards/accuracies']);
      expect(metrics['log_probability_chosen']).toBeCloseTo(line?.['logps/chosen'] ?? NaN, 2);
    }
  });

  it('tunes by another loss as the reference: the mean over tokens of ipo', async () => {
    const ipo = dpoObjective({ beta: 0.1, nllWeight: 0, labelSmoothing: 0, replayWeight: 0, loss: 'ipo' });
    const { steps } = await train(ipo, referencePairs);
    expect(steps[0]?.loss).toBeCloseTo(25, 12);
    expectLog(steps, expected.dpo_ipo.log);
  });

  it('starts preference training at exactly ln 2: the reference pass and the first forward agree in every bit', async () => {
    const { steps } = await train(dpo, prepareExamples(model, pairs, dpo, recipe), { microBatchTokens: 300 });
    expect(steps[0]?.loss).toBeCloseTo(Math.LN2, 14);
    expect(steps[0]?.metrics['reward_margin']).toBe(0);
  });

  it('gives the same bits with one thread and with two', async () => {
    const examples = prepareExamples(model, rows.slice(0, 8), sft, recipe);
    const [one, two] = [await train(sft, examples), await train(sft, examples, {}, 2)];
    expect(two.steps).toEqual(one.steps);
    for (const [name, values] of one.weights)
      expect(Buffer.from(two.weights.get(name)?.buffer ?? new ArrayBuffer()).equals(Buffer.from(values.buffer))).toBe(
        true,
      );
  });
});
