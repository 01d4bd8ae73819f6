import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import native from '../../../engines/native/index.ts';
import type { Learner, Model, OptimiserStep, TokenBatch } from '../../../src/contracts/index.ts';
import { readSafetensors } from '../../../src/kit/index.ts';
import { writeTinyCheckpoint } from '../../support/tiny-checkpoint.ts';

const step: OptimiserStep = {
  learningRate: 1e-2,
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-8,
  weightDecay: 0.1,
  maxGradNorm: 1,
};

let base: string;
let folder: string;
let model: Model;

beforeAll(async () => {
  base = await writeTinyCheckpoint({ scale: 0.1 });
  folder = await mkdtemp(join(tmpdir(), 'cupel-learner-'));
  model = await native.open({ id: 'tiny', path: base }, { threads: 1 });
});
afterAll(async () => {
  await model.close();
  await rm(base, { recursive: true });
  await rm(folder, { recursive: true });
});

function batch(texts: readonly string[]): TokenBatch {
  const rows = texts.map((text) => model.tokenize(text));
  const offsets = rows.reduce<number[]>((ends, row) => [...ends, (ends.at(-1) ?? 0) + row.length], [0]);
  return {
    tokens: Int32Array.from(rows.flat()),
    offsets: Int32Array.from(offsets),
    labelled: Uint8Array.from(rows.flatMap((row) => row.map((_, index) => Number(index > 0)))),
  };
}

const lesson = ['<|user|>where is my order<|assistant|>late<|end|>', '<|user|>hello<|assistant|>good day<|end|>'];

async function train(learner: Learner, steps: number): Promise<number> {
  let loss = NaN;
  for (let index = 0; index < steps; index++) {
    const values = await learner.logProbabilities(batch(lesson));
    loss = -values.reduce((sum, value) => sum + value, 0) / values.length;
    await learner.backward(new Float32Array(values.length).fill(-1 / values.length));
    expect((await learner.step(step)).gradNorm).toBeGreaterThan(0);
  }
  return loss;
}

const weights = (learner: Learner): Record<string, Float32Array> =>
  Object.fromEntries(learner.tensorNames().map((name) => [name, learner.tensor(name, 'weight')]));

describe('a learner', () => {
  it('learns a lesson by heart, saves it, and the saved checkpoint says it', async () => {
    const learner = (await model.learner?.({ threads: 2 })) as Learner;
    const first = await train(learner, 1);
    const last = await train(learner, 79);
    expect(last).toBeLessThan(first / 4);
    const path = join(folder, 'taught');
    await learner.save(path);
    await learner.close();

    const taught = await native.open({ id: 'taught', path }, { threads: 1 });
    const messages = [{ role: 'user' as const, content: 'hello' }];
    expect(taught.render(messages)).toBe(model.render(messages));
    for await (const { text, finish } of taught.generate([
      { id: 'a', prompt: { text: '<|user|>hello<|assistant|>' }, maxTokens: 20 },
    ])) {
      expect([text, finish]).toEqual(['good day', 'stop']);
    }
    expect(taught.digest).not.toBe(model.digest);
    await taught.close();
  });

  it('saves over the folder that it came from without emptying a file', async () => {
    const path = join(folder, 'own');
    const maker = (await model.learner?.({})) as Learner;
    await maker.save(path);
    await maker.close();
    const own = await native.open({ id: 'own', path }, { threads: 1 });
    const learner = (await own.learner?.({})) as Learner;
    await learner.save(path);
    await learner.close();
    await own.close();
    const again = await native.open({ id: 'again', path }, { threads: 1 });
    expect(again.tokenize('hello')).toEqual(model.tokenize('hello'));
    await again.close();
  });

  it('changes nothing of the model that it came from', async () => {
    const before = await model.score([{ context: '<|user|>', continuation: 'hello' }]);
    const learner = (await model.learner?.({})) as Learner;
    await train(learner, 1);
    await learner.close();
    expect(await model.score([{ context: '<|user|>', continuation: 'hello' }])).toEqual(before);
  });

  it('goes on from a saved state bit for bit, whatever the number of threads', async () => {
    const straight = (await model.learner?.({ threads: 1 })) as Learner;
    await train(straight, 3);
    const [path, state] = [join(folder, 'half'), join(folder, 'half.state')];
    await straight.save(path);
    await straight.saveState(state);
    await train(straight, 3);

    const half = await native.open({ id: 'half', path }, { threads: 1 });
    const resumed = (await half.learner?.({ threads: 3 })) as Learner;
    await resumed.loadState(state);
    await train(resumed, 3);
    expect(weights(resumed)).toEqual(weights(straight));

    await writeFile(state, (await readFile(state)).subarray(0, 100));
    await expect(resumed.loadState(state)).rejects.toMatchObject({
      code: expect.stringMatching(/^CUPEL_NATIVE_(STATE_INVALID|SAFETENSORS_TRUNCATED)$/),
      where: state,
    });
    await Promise.all([resumed.close(), straight.close(), half.close()]);
  });

  it('scores the same tokens as the model does, and adds up gradients of several passes', async () => {
    const learner = (await model.learner?.({})) as Learner;
    const text = '<|user|>where is my order';
    const values = await learner.logProbabilities(batch([text]), { keep: false });
    const [score] = await model.score([{ context: '<|user|>', continuation: 'where is my order' }]);
    expect([...values]).toEqual(score?.logProbabilities);

    const name = 'model.layers.0.mlp.up_proj.weight';
    const gradientOf = async (texts: readonly string[]): Promise<void> => {
      const { length } = await learner.logProbabilities(batch(texts));
      await learner.backward(new Float32Array(length).fill(-0.1));
    };
    await gradientOf(lesson.slice(0, 1));
    const first = learner.tensor(name, 'gradient');
    await gradientOf(lesson.slice(1));
    const both = learner.tensor(name, 'gradient');
    await learner.step(step);
    expect(learner.tensor(name, 'gradient').every((value) => value === 0)).toBe(true);
    const second = (await model.learner?.({})) as Learner;
    const { length } = await second.logProbabilities(batch(lesson.slice(1)));
    await second.backward(new Float32Array(length).fill(-0.1));
    const alone = second.tensor(name, 'gradient');
    expect(both.every((value, index) => Math.abs(value - (first[index] ?? NaN) - (alone[index] ?? NaN)) < 1e-6)).toBe(
      true,
    );
    await Promise.all([learner.close(), second.close()]);
  });

  it('saves in the element type that is asked for, and names it in the config', async () => {
    const learner = (await model.learner?.({})) as Learner;
    for (const [dtype, torch, stored] of [
      ['f32', 'float32', 'F32'],
      ['bf16', 'bfloat16', 'BF16'],
    ] as const) {
      const path = join(folder, dtype);
      await learner.save(path, { dtype });
      const { tensors } = await readSafetensors(join(path, 'model.safetensors'));
      expect(new Set([...tensors.values()].map((tensor) => tensor.dtype))).toEqual(new Set([stored]));
      expect(JSON.parse(await readFile(join(path, 'config.json'), 'utf8'))).toMatchObject({
        dtype: torch,
        model_type: 'llama',
      });
      await (await native.open({ id: dtype, path }, { threads: 1 })).close();
    }
    await learner.close();
  });

  it('refuses a batch that does not fit together, and can be used after', async () => {
    const learner = (await model.learner?.({})) as Learner;
    const good = batch(lesson);
    const broken: [TokenBatch, string][] = [
      [{ ...good, offsets: Int32Array.from([0, 5, 3]) }, 'CUPEL_NATIVE_BATCH_INVALID'],
      [{ ...good, labelled: good.labelled.slice(1) }, 'CUPEL_NATIVE_BATCH_INVALID'],
      [{ ...good, labelled: good.labelled.map(() => 1) }, 'CUPEL_NATIVE_BATCH_INVALID'],
      [{ ...good, tokens: good.tokens.map(() => 99999) }, 'CUPEL_NATIVE_TOKEN_OUT_OF_RANGE'],
      [{ ...good, tokens: good.tokens.map(() => -1) }, 'CUPEL_NATIVE_TOKEN_OUT_OF_RANGE'],
    ];
    for (const [bad, code] of broken) await expect(learner.logProbabilities(bad)).rejects.toMatchObject({ code });
    await expect(learner.backward(new Float32Array(3))).rejects.toMatchObject({ code: 'CUPEL_NATIVE_BATCH_INVALID' });
    const values = await learner.logProbabilities(good);
    await expect(learner.backward(new Float32Array(values.length + 1))).rejects.toMatchObject({
      code: 'CUPEL_NATIVE_BATCH_INVALID',
    });
    expect(() => learner.tensor('no.such.weight', 'weight')).toThrowError(
      expect.objectContaining({ code: 'CUPEL_NATIVE_TENSOR_UNKNOWN' }),
    );
    await learner.close();
    await learner.close();
    await expect(learner.logProbabilities(good)).rejects.toMatchObject({ code: 'CUPEL_NATIVE_CLOSED' });
  });
});
