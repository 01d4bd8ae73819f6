import { existsSync, readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openLearner } from '../../../engines/native/learner.ts';
import type { Learner, TokenBatch } from '../../../src/contracts/index.ts';
import { readSafetensors } from '../../../src/kit/index.ts';

// Values of torch 2.15.0 and transformers 5.23.0; tolerances are those of fixtures/reference/models/README.md.
const folder = join(import.meta.dirname, '../../../fixtures/reference/models');
const models = readdirSync(folder).filter((name) => existsSync(join(folder, name, 'grads.safetensors')));

interface ReferenceBatch {
  readonly input_ids: number[][];
  readonly attention_mask: number[][];
  readonly labels: number[][];
}

interface Hyper {
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly weight_decay: number;
  readonly max_grad_norm: number;
}

/** Packs right-padded rows; `everything` labels each token but the first of a sequence. */
function pack(batch: ReferenceBatch, everything = false): TokenBatch {
  const tokens: number[] = [];
  const labelled: number[] = [];
  const offsets = [0];
  for (const [row, ids] of batch.input_ids.entries()) {
    for (const [column, id] of ids.entries()) {
      if (batch.attention_mask[row]?.[column] !== 1) continue;
      tokens.push(id);
      labelled.push(everything ? Number(column > 0) : Number(batch.labels[row]?.[column] !== -100));
    }
    offsets.push(tokens.length);
  }
  return { tokens: Int32Array.from(tokens), offsets: Int32Array.from(offsets), labelled: Uint8Array.from(labelled) };
}

const worst = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  expect(a.length).toBe(b.length);
  let difference = 0;
  for (let index = 0; index < a.length; index++)
    difference = Math.max(difference, Math.abs((a[index] ?? NaN) - (b[index] ?? NaN)));
  return difference;
};

async function lossAndBackward(learner: Learner, batch: ReferenceBatch): Promise<number> {
  const values = await learner.logProbabilities(pack(batch));
  await learner.backward(new Float32Array(values.length).fill(-1 / values.length));
  return -values.reduce((sum, value) => sum + value, 0) / values.length;
}

it('has reference models to compare with', () => {
  expect(models.length).toBeGreaterThan(0);
  expect(models.some((name) => existsSync(join(folder, name, 'after3.safetensors')))).toBe(true);
});

describe.each(models)('the learner on %s', (name) => {
  const file = (part: string): string => join(folder, name, part);
  let learner: Learner;
  let batches: ReferenceBatch[];
  let hyper: Hyper;
  let steps: { loss: number; grad_norm: number; lr: number }[];

  beforeAll(async () => {
    const data = JSON.parse(await readFile(file('batches.json'), 'utf8')) as {
      batches: ReferenceBatch[];
      hyper: Hyper;
    };
    ({ batches, hyper } = data);
    steps = (
      JSON.parse(await readFile(file('expected.json'), 'utf8')) as { expected: { full: { steps: typeof steps } } }
    ).expected.full.steps;
    learner = await openLearner(join(folder, name), { threads: 2 });
  });
  afterAll(() => learner.close());

  it('gives the log-probability of every token within 1e-5', async () => {
    const batch = batches[0] as ReferenceBatch;
    const values = await learner.logProbabilities(pack(batch, true), { keep: false });
    const reference = (await readSafetensors(file('forward.safetensors'))).tensors.get('token_logps');
    const width = reference?.shape[1] ?? 0;
    const expected = batch.input_ids.flatMap((ids, row) =>
      ids.flatMap((_, column) =>
        column > 0 && batch.attention_mask[row]?.[column] === 1
          ? [reference?.data[row * width + column - 1] ?? NaN]
          : [],
      ),
    );
    expect(worst(values, expected)).toBeLessThan(1e-5);
  });

  it('gives every gradient within 5e-6 and the loss within 5e-6', async () => {
    const loss = await lossAndBackward(learner, batches[0] as ReferenceBatch);
    expect(Math.abs(loss - (steps[0]?.loss ?? NaN))).toBeLessThan(5e-6);
    const reference = await readSafetensors(file('grads.safetensors'));
    expect([...learner.tensorNames()].sort()).toEqual([...reference.tensors.keys()].sort());
    for (const [tensor, { data }] of reference.tensors)
      expect(worst(learner.tensor(tensor, 'gradient'), data), tensor).toBeLessThan(5e-6);
  });

  it('ends where three AdamW steps of torch end', async () => {
    // The gradients of the first batch are those that the test before has left; learning rate 0 keeps the weights.
    for (const [index, { loss, grad_norm: norm, lr }] of steps.entries()) {
      if (index > 0) {
        const ours = await lossAndBackward(learner, batches[index] as ReferenceBatch);
        expect(Math.abs(ours - loss)).toBeLessThan(5e-6);
      }
      const { gradNorm } = await learner.step({
        learningRate: lr,
        beta1: hyper.beta1,
        beta2: hyper.beta2,
        epsilon: hyper.eps,
        weightDecay: hyper.weight_decay,
        maxGradNorm: hyper.max_grad_norm,
      });
      expect(Math.abs(gradNorm / norm - 1)).toBeLessThan(1e-5);
    }
    // Kept for one model, to keep the fixtures small; losses and norms above are compared for all.
    if (!existsSync(file('after3.safetensors'))) return;
    const after = await readSafetensors(file('after3.safetensors'));
    let [count, far] = [0, 0];
    for (const [tensor, { data }] of after.tensors) {
      const ours = learner.tensor(tensor, 'weight');
      expect(worst(ours, data), tensor).toBeLessThan(1e-3);
      count += data.length;
      far += data.reduce((sum, value, index) => sum + Number(Math.abs(value - (ours[index] ?? NaN)) > 1e-5), 0);
    }
    expect(far / count).toBeLessThan(0.001);
  });
});
