import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import native from '../../../engines/native/index.ts';
import type {
  AdapterOptions,
  Learner,
  LearnerOptions,
  LearnerPlan,
  Message,
  Model,
  OptimiserStep,
  StepShape,
  TokenBatch,
} from '../../../src/contracts/index.ts';
import { packageRoot } from '../../../src/kit/index.ts';
import { writeTinyCheckpoint } from '../../support/tiny-checkpoint.ts';

const reference = join(packageRoot(), 'fixtures/reference');
const base = join(reference, 'models/llama-untied');
const peft = join(reference, 'adapters/llama-untied');
const adapter: AdapterOptions = { rank: 4, alpha: 8, from: peft };
const step: OptimiserStep = {
  learningRate: 5e-3,
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-8,
  weightDecay: 0.1,
  maxGradNorm: 0.5,
};
const batch: TokenBatch = {
  tokens: Int32Array.from([127, 34, 18, 218, 133, 237, 44, 185, 109, 198, 40, 6]),
  offsets: Int32Array.from([0, 7, 12]),
  labelled: Uint8Array.from([0, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1]),
};
const labels = batch.tokens.filter((_, index) => batch.labelled[index] === 1);

let model: Model;
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cupel-adapters-'));
  // The reference model has no tokenizer; any of a small enough vocabulary lets the engine open it.
  const path = join(folder, 'base');
  await mkdir(path);
  for (const file of ['config.json', 'model.safetensors']) await copyFile(join(base, file), join(path, file));
  await writeFile(join(path, 'tokenizer.json'), JSON.stringify(wordTokenizer(256)));
  await writeFile(join(path, 'generation_config.json'), '{"eos_token_id":2}');
  model = await native.open({ id: 'base', path }, { threads: 2 });
});
afterAll(async () => {
  await model.close();
  await rm(folder, { recursive: true });
});

function wordTokenizer(count: number): object {
  const vocab = Object.fromEntries(Array.from({ length: count }, (_, id) => [`w${id}`, id]));
  return {
    version: '1.0',
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    model: { type: 'BPE', vocab, merges: [], byte_fallback: false, fuse_unk: false, ignore_merges: false },
  };
}

const open = async (options: LearnerOptions): Promise<Learner> => (await model.learner?.(options)) as Learner;

async function train(learner: Learner, steps: number): Promise<void> {
  for (let index = 0; index < steps; index++) {
    const { length } = await learner.logProbabilities(batch);
    await learner.backward(new Float32Array(length).fill(-1 / length));
    await learner.step(step);
  }
}

const weights = (learner: Learner): Record<string, Float32Array> =>
  Object.fromEntries(learner.tensorNames().map((name) => [name, learner.tensor(name, 'weight')]));

const worst = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  expect(a.length).toBe(b.length);
  return Math.max(...Array.from(a, (value, index) => Math.abs(value - (b[index] ?? NaN))));
};

describe('a learner of adapters', () => {
  it('trains the factors alone, under the names of PEFT', async () => {
    const learner = await open({ adapter });
    const names = learner.tensorNames();
    expect(names).toHaveLength(28);
    expect(names[0]).toBe('base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight');
    expect(learner.trainableCount).toBe(names.reduce((sum, name) => sum + learner.tensor(name, 'weight').length, 0));
    const whole = await open({});
    expect(learner.parameterCount).toBe(whole.parameterCount + learner.trainableCount);
    expect(whole.trainableCount).toBe(whole.parameterCount);
    await Promise.all([learner.close(), whole.close()]);
  });

  it('writes a PEFT folder that the engine serves beside the base, and a merged folder, with equal scores', async () => {
    const learner = await open({ adapter });
    await train(learner, 3);
    const [beside, merged] = [join(folder, 'peft'), join(folder, 'merged')];
    await learner.save(beside, { form: 'adapter' });
    await learner.save(merged);
    const wanted = await learner.logProbabilities(batch, { keep: false });
    await learner.close();

    const item = { contextIds: [127, 34], continuationIds: [18, 218, 133, 237, 44] };
    const expected = wanted.slice(0, 5);
    const served = await native.open({ id: 'served', path: join(folder, 'base') }, { adapters: { own: beside } });
    const [scored] = await served.score([{ ...item, adapter: 'own' }]);
    expect(worst(scored?.logProbabilities ?? [], expected)).toBeLessThanOrEqual(1e-5);
    await served.close();
    const whole = await native.open({ id: 'merged', path: merged });
    const [alone] = await whole.score([item]);
    expect(worst(alone?.logProbabilities ?? [], expected)).toBeLessThanOrEqual(1e-5);
    await whole.close();
  });

  it.each(['f32', 'bf16', 'q8_0', 'q4_0'] as const)(
    'goes on from a saved state bit for bit over a base held as %s',
    async (held) => {
      const straight = await open({ adapter, base: held, threads: 1 });
      await train(straight, 2);
      const state = join(folder, `${held}.state`);
      await straight.saveState(state);
      await train(straight, 2);
      const resumed = await open({ adapter, base: held, threads: 3 });
      await resumed.loadState(state);
      await train(resumed, 2);
      expect(weights(resumed)).toEqual(weights(straight));
      const other = await open({ adapter, base: held === 'f32' ? 'q8_0' : 'f32' });
      await expect(other.loadState(state)).rejects.toMatchObject({ code: 'CUPEL_NATIVE_STATE_INVALID', where: state });
      await Promise.all([straight.close(), resumed.close(), other.close()]);
    },
  );

  it('gives the base as the reference without disturbing the pass that is kept', async () => {
    const learner = await open({ adapter });
    const own = await learner.logProbabilities(batch);
    const before = await learner.logProbabilities(batch, { keep: false, adapter: false });
    const whole = await open({});
    expect(before).toEqual(await whole.logProbabilities(batch, { keep: false }));
    expect(worst(before, own)).toBeGreaterThan(1e-3);
    await learner.backward(new Float32Array(own.length).fill(1));
    await Promise.all([learner.close(), whole.close()]);
  });

  it('refuses options that can not be, by name', async () => {
    const refused = async (options: object, code: string, where: string): Promise<void> => {
      await expect(open(options)).rejects.toMatchObject({ code, where: expect.stringContaining(where) });
    };
    const config = 'CUPEL_NATIVE_CONFIG_INVALID';
    await refused({ adapter: { rank: 0, alpha: 8 } }, config, 'adapter.rank');
    await refused({ adapter: { rank: 1e6, alpha: 8 } }, config, 'adapter.rank');
    await refused({ adapter: { rank: 2.5, alpha: 8 } }, 'CUPEL_NATIVE_REQUEST_INVALID', 'adapter.rank');
    await refused({ adapter: { rank: 4, alpha: -1 } }, config, 'adapter.alpha');
    await refused({ adapter: { rank: 4, alpha: 8, targets: ['lm_head'] } }, config, 'adapter.targets');
    await refused({ adapter: { rank: 4, alpha: 8, seed: -1 } }, 'CUPEL_NATIVE_REQUEST_INVALID', 'adapter.seed');
    await refused({ base: 'q4_0' }, config, 'base');
    await refused({ base: 'q5_k', adapter }, 'CUPEL_NATIVE_REQUEST_INVALID', 'base');
    await refused({ head: 'values' }, 'CUPEL_NATIVE_REQUEST_INVALID', 'head');
    await refused({ adapter: { ...adapter, rank: 8 } }, 'CUPEL_NATIVE_ADAPTER_INVALID', peft);
    await refused({ adapter: { ...adapter, from: join(folder, 'nowhere') } }, 'CUPEL_NATIVE_IO', 'nowhere');
    const whole = await open({});
    await expect(whole.save(join(folder, 'none'), { form: 'adapter' })).rejects.toMatchObject({
      code: 'CUPEL_NATIVE_REQUEST_INVALID',
    });
    await whole.close();
  });

  it('answers damaged adapter folders with coded errors', async () => {
    const path = join(folder, 'damaged');
    await mkdir(path, { recursive: true });
    const [config, tensors] = await Promise.all(
      ['adapter_config.json', 'adapter_model.safetensors'].map((name) => readFile(join(peft, name))),
    );
    const header = 8 + Number((tensors as Buffer).readBigUInt64LE(0));
    const attempt = async (text: Buffer, data: Buffer): Promise<void> => {
      await writeFile(join(path, 'adapter_config.json'), text);
      await writeFile(join(path, 'adapter_model.safetensors'), data);
      await expect(
        open({ adapter: { ...adapter, from: path } }).then(async (learner) => {
          // What still is a whole adapter is one.
          await learner.close();
          throw Object.assign(new Error(), { code: 'CUPEL_NATIVE_NONE' });
        }),
      ).rejects.toMatchObject({ code: expect.stringMatching(/^CUPEL_NATIVE_(?!INTERNAL)/) });
    };
    const nan = Buffer.from(tensors as Buffer);
    nan.writeUInt32LE(0x7fc00000, header);
    await attempt(config as Buffer, nan);
    await fc.assert(
      fc.asyncProperty(
        fc.nat({ max: header - 1 }),
        fc.integer({ min: 0, max: 255 }),
        fc.boolean(),
        async (place, byte, cut) => {
          const data = cut ? (tensors as Buffer).subarray(0, place) : Buffer.from(tensors as Buffer);
          if (!cut) data[place] = byte;
          await attempt(config as Buffer, data);
        },
      ),
      { numRuns: 40 },
    );
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: (config as Buffer).length - 1 }), fc.nat({ max: 255 }), async (place, byte) => {
        const text = Buffer.from(config as Buffer);
        text[place] = byte;
        await attempt(text, tensors as Buffer);
      }),
      { numRuns: 40 },
    );
  });
});

describe('distributions', () => {
  it('hold the labelled tokens, and their likeliest in order', async () => {
    const learner = await open({ frozen: true });
    expect(learner.trainableCount).toBe(0);
    const own = await learner.logProbabilities(batch);
    expect(await learner.distributions(batch, labels)).toEqual(own);
    const every = await learner.distributions(batch, null, { temperature: 2 });
    const { ids, logProbabilities } = await learner.topTokens(batch, 3, { temperature: 2 });
    expect([ids.length, logProbabilities.length, every.length]).toEqual([27, 27, 9 * 256]);
    ids.forEach((id, index) => {
      const row = every.subarray(Math.floor(index / 3) * 256).subarray(0, 256);
      expect(logProbabilities[index]).toBe(row[id]);
      expect(row.filter((value) => value > (row[id] as number))).toHaveLength(index % 3);
    });
    await expect(learner.backward(own)).rejects.toMatchObject({ code: 'CUPEL_NATIVE_REQUEST_INVALID' });
    await expect(learner.topTokens(batch, 257)).rejects.toMatchObject({ code: 'CUPEL_NATIVE_REQUEST_INVALID' });
    await expect(learner.distributions(batch, Int32Array.from([1]))).rejects.toMatchObject({
      code: 'CUPEL_NATIVE_BATCH_INVALID',
    });
    await learner.close();
  });
});

describe('a reward head', () => {
  it('learns to prefer one sequence, is saved, and goes on from its folder', async () => {
    const learner = await open({ head: 'reward' });
    expect([...(await learner.rewards(batch))]).toEqual([0, 0]);
    for (let index = 0; index < 8; index++) {
      const [first = NaN, second = NaN] = await learner.rewards(batch);
      // Bradley-Terry: -log sigmoid(first - second).
      const pull = 1 / (1 + Math.exp(first - second));
      await learner.backward(Float32Array.from([-pull, pull]));
      await learner.step(step);
    }
    const taught = await learner.rewards(batch, { keep: false });
    expect(taught[0]).toBeGreaterThan((taught[1] ?? NaN) + 0.1);
    const path = join(folder, 'reward');
    await learner.save(path);
    expect(JSON.parse(await readFile(join(path, 'config.json'), 'utf8'))).toMatchObject({
      architectures: ['LlamaForSequenceClassification'],
      num_labels: 1,
    });
    await expect(learner.logProbabilities(batch)).rejects.toMatchObject({ code: 'CUPEL_NATIVE_REQUEST_INVALID' });
    await learner.close();
  });

  it('gives rewards of conversations, and neither generates nor scores', async () => {
    const source = await writeTinyCheckpoint({ scale: 0.1 });
    const tiny = await native.open({ id: 'tiny', path: source }, { threads: 1 });
    expect('rewards' in tiny).toBe(false);
    const conversation = (content: string): Message[] => [
      { role: 'user', content: 'where is my order' },
      { role: 'assistant', content },
    ];
    const conversations = ['late', 'good day', 'late'].map(conversation);
    const rows = conversations.map((messages) => tiny.tokenize(tiny.render(messages, { addGenerationPrompt: false })));
    const offsets = rows.reduce<number[]>((ends, row) => [...ends, (ends.at(-1) ?? 0) + row.length], [0]);
    const pair: TokenBatch = {
      tokens: Int32Array.from(rows.flat()),
      offsets: Int32Array.from(offsets),
      labelled: new Uint8Array(rows.flat().length),
    };
    const learner = (await tiny.learner?.({ head: 'reward' })) as Learner;
    for (let index = 0; index < 3; index++) {
      await learner.rewards(pair);
      await learner.backward(Float32Array.from([-1, 1, 0]));
      await learner.step(step);
    }
    const path = join(folder, 'judge');
    await learner.save(path);
    const wanted = [...(await learner.rewards(pair, { keep: false }))];
    await Promise.all([learner.close(), tiny.close()]);

    const judge = await native.open({ id: 'judge', path }, { threads: 2 });
    const rewards = (await judge.rewards?.(conversations)) ?? [];
    expect(rewards).toEqual(wanted);
    expect(rewards[0]).toBeGreaterThan(rewards[1] as number);
    expect(rewards[2]).toBe(rewards[0]);
    expect(await judge.rewards?.([])).toEqual([]);
    await expect(judge.score([])).rejects.toMatchObject({ code: 'CUPEL_NATIVE_REQUEST_INVALID', where: path });
    for await (const answer of judge.generate([{ id: 'a', prompt: { text: 'x' }, maxTokens: 1 }])) {
      expect(answer).toMatchObject({ id: 'a', finish: 'error', error: { code: 'CUPEL_NATIVE_REQUEST_INVALID' } });
    }
    const again = (await judge.learner?.({ head: 'reward' })) as Learner;
    expect([...(await again.rewards(pair))]).toEqual(wanted);
    await again.close();
    await expect(judge.learner?.({})).rejects.toMatchObject({ code: 'CUPEL_NATIVE_TENSOR_UNKNOWN' });
    await judge.close();
    await expect(judge.rewards?.(conversations)).rejects.toMatchObject({ code: 'CUPEL_NATIVE_CLOSED' });
    await rm(source, { recursive: true });
  });
});

describe('a plan', () => {
  it('counts what the learner has, and grows with the batch', async () => {
    const plan = (options: LearnerOptions, of: StepShape): Promise<LearnerPlan> | undefined =>
      model.planLearner?.(options, of);
    const shape = { tokens: 1024, labelledTokens: 512, longestSequence: 256 };
    for (const options of [{}, { adapter }, { frozen: true }, { head: 'reward' as const }]) {
      const planned = await plan(options, shape);
      const learner = await open(options);
      expect([planned?.parameters, planned?.trainableParameters]).toEqual([
        learner.parameterCount,
        learner.trainableCount,
      ]);
      const wide = await plan(options, { ...shape, tokens: 4096 });
      expect(wide?.memoryBytes).toBeGreaterThan(planned?.memoryBytes ?? NaN);
      expect(planned?.operationsPerToken).toBeGreaterThan(0);
      expect(planned?.secondsPerToken).toBeGreaterThan(0);
      await learner.close();
    }
    await expect(plan({ base: 'q4_0' }, shape)).rejects.toMatchObject({
      code: 'CUPEL_NATIVE_CONFIG_INVALID',
    });
    await expect(plan({}, { ...shape, tokens: -1 })).rejects.toMatchObject({
      code: 'CUPEL_NATIVE_REQUEST_INVALID',
    });
  });
});
