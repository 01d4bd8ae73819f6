import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import native from '../../engines/native/index.ts';
import { openLearner } from '../../engines/native/learner.ts';
import type { Learner, Model, Objective, Recipe, TrainEvent, TrainJob } from '../../src/contracts/index.ts';
import { readTrainingRows } from '../../src/data/index.ts';
import { sha256File } from '../../src/kit/index.ts';
import { type Example, packSequences, trainLoop, trainServices } from '../../src/train/index.ts';
import { dpoObjective } from '../../trainers/dpo.ts';
import { sftObjective } from '../../trainers/sft.ts';
import { baseRecipe, stopAfter } from './training-job.ts';

const models = join(import.meta.dirname, '../../fixtures/reference/models');
const names = ['llama-untied', 'qwen2-tied', 'llama-tied-gqa9'];
const sft = sftObjective({ replayWeight: 1 });
const dpo = dpoObjective({ beta: 0.1, nllWeight: 1, labelSmoothing: 0, replayWeight: 1 });

interface Batches {
  readonly batches: readonly {
    readonly input_ids: readonly number[][];
    readonly attention_mask: readonly number[][];
    readonly labels: readonly number[][];
  }[];
}

/** The rows of the reference batches, as examples; of pairs each row with the next. */
function examplesOf(name: string, objective: Objective): Example[] {
  const { batches } = JSON.parse(readFileSync(join(models, name, 'batches.json'), 'utf8')) as Batches;
  const sequences = batches.flatMap(({ input_ids: ids, attention_mask: mask, labels }) =>
    ids.map((row, index) => {
      const length = (mask[index] ?? []).reduce((sum, value) => sum + value, 0);
      const weights = Float64Array.from(labels[index]?.slice(0, length) ?? [], (label) => (label === -100 ? 0 : 1));
      const labelledTokens = weights.reduce((sum, weight) => sum + weight, 0);
      return {
        tokens: Int32Array.from(row.slice(0, length)),
        weights,
        labelledTokens,
        promptLength: weights.indexOf(1),
      };
    }),
  );
  return sequences.map((sequence, index) => ({
    id: `s${index}`,
    sequences:
      objective.sequences === 'pair'
        ? [sequence, sequences[(index + 1) % sequences.length] as (typeof sequences)[number]]
        : [sequence],
  }));
}

const recipe: Recipe = {
  ...baseRecipe,
  batchSize: 4,
  epochs: 1,
  maxSteps: 2,
  learningRate: 1e-3,
  warmupSteps: 0,
  checkpoints: null,
};

async function weightsAfter(name: string, objective: Objective, change: Partial<Recipe>) {
  const learner = await openLearner(join(models, name), { threads: 1 });
  try {
    const examples = examplesOf(name, objective);
    const used = { ...recipe, ...change };
    const { losses } = await trainLoop({ learner, objective, recipe: used, examples, replay: null, seed: 1 }, () => {});
    return { losses, weights: weightsOf(learner) };
  } finally {
    await learner.close();
  }
}
const weightsOf = (learner: Learner): Float32Array[] =>
  learner.tensorNames().map((name) => learner.tensor(name, 'weight'));
function furthest(a: readonly Float32Array[], b: readonly Float32Array[]): number {
  let most = 0;
  for (const [index, tensor] of a.entries()) {
    for (let place = 0; place < tensor.length; place++)
      most = Math.max(most, Math.abs((tensor[place] ?? NaN) - (b[index]?.[place] ?? NaN)));
  }
  return most;
}
const tokensOf = (examples: readonly Example[]): number[] =>
  examples.map(({ sequences }) => sequences.reduce((sum, { tokens }) => sum + tokens.length, 0));

describe.each(names)('native training of %s', (name) => {
  it.each([
    ['sft', sft],
    ['dpo', dpo],
  ] as const)('gives the same %s run whatever the parts of a step: within 1e-5', async (_, objective) => {
    const whole = await weightsAfter(name, objective, { microBatchTokens: 4096 });
    const most = Math.max(...tokensOf(examplesOf(name, objective)));
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 4 * most }), async (microBatchTokens) => {
        const parts = await weightsAfter(name, objective, { microBatchTokens });
        expect(furthest(parts.weights, whole.weights)).toBeLessThan(1e-5);
        for (const [step, loss] of whole.losses.entries()) expect(parts.losses[step]).toBeCloseTo(loss, 5);
      }),
      { numRuns: 3, seed: 5, examples: [[2 * most], [1]] },
    );
  });

  it('reads sequences packed as it reads them alone: to the bit', async () => {
    const learner = await openLearner(join(models, name), { threads: 1 });
    const sequences = examplesOf(name, sft).flatMap((example) => example.sequences);
    const packed = await learner.logProbabilities(packSequences(sequences), { keep: false });
    const alone: number[] = [];
    for (const sequence of sequences)
      alone.push(...(await learner.logProbabilities(packSequences([sequence]), { keep: false })));
    expect([...packed]).toEqual(alone);
    await learner.close();
  });
});

const base = { id: 'base', path: join(import.meta.dirname, '../../fixtures/reference/e2e') };

describe('a native run that is interrupted', () => {
  let folder: string;
  let model: Model;
  let rows: { answers: TrainJob['data']; pairs: TrainJob['data'] };
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'cupel-native-train-'));
    model = await native.open(base, { threads: 1 });
    const read = (file: string) => readTrainingRows(join(base.path, file));
    rows = { answers: (await read('sft.jsonl')).slice(0, 5), pairs: (await read('dpo.jsonl')).slice(0, 5) };
  });
  afterAll(async () => {
    await model.close();
    await rm(folder, { recursive: true, force: true });
  });

  const jobOf = (name: string, data: TrainJob['data']): TrainJob => ({
    id: 'native',
    base,
    model,
    openLearner: (options) => model.learner?.({ threads: 1, ...options }) as Promise<Learner>,
    openTeacher: null,
    services: trainServices,
    data,
    replay: { rows: rows.answers.slice(0, 2), perStep: 1 },
    parameters: {},
    seed: 2,
    output: join(folder, name, 'out'),
    work: join(folder, name, 'work'),
    resume: false,
    validation: null,
  });
  const small: Recipe = { ...recipe, batchSize: 2, epochs: 2, maxSteps: 5, warmupSteps: 1 };
  const digest = (job: TrainJob): Promise<string> => sha256File(join(job.output, 'model.safetensors'));

  it.each([
    ['sft', sft, 'answers'],
    ['dpo', dpo, 'pairs'],
  ] as const)('goes on to the same bytes, at every step of %s', async (id, objective, kind) => {
    const straight = jobOf(`${id}-straight`, rows[kind]);
    const expected = await trainServices.run(straight, objective, small, () => {});
    for (let step = 1; step < 5; step++) {
      const job = jobOf(`${id}-${step}`, rows[kind]);
      const { signal, sink } = stopAfter(step);
      await expect(trainServices.run(job, objective, small, sink, signal)).rejects.toThrow('stopped');
      expect(await trainServices.run({ ...job, resume: true }, objective, small, () => {})).toEqual(expected);
      expect(await digest(job)).toBe(await digest(straight));
    }
  });

  it.each([
    ['lora', { kind: 'lora', rank: 4, alpha: 8 }, 'f32'],
    ['qlora', { kind: 'qlora', rank: 4, alpha: 8, base: 'q8_0' }, 'f32'],
    ['bf16', { kind: 'full' }, 'bf16'],
  ] as const)('goes on to the same bytes with %s, and saves what it trained', async (id, tuning, compute) => {
    const used: Recipe = { ...small, tuning, compute, maxSteps: 3, learningRate: 1e-2 };
    const openSaved = async (path: string): Promise<Learner> => {
      const saved = await native.open({ id: 'saved', path }, { threads: 1 });
      const learner = (await saved.learner?.({ threads: 1, frozen: true })) as Learner;
      await saved.close();
      return learner;
    };
    const straight = { ...jobOf(`${id}-straight`, rows.pairs), openSaved };
    const events: TrainEvent[] = [];
    const expected = await trainServices.run(straight, dpo, used, (event) => events.push(event));
    if (tuning.kind !== 'full') expect(expected.metrics['merge_difference']).toBeLessThan(1e-4);
    expect(
      events.filter(({ type }) => type === 'warning').map((event) => event.type === 'warning' && event.code),
    ).not.toContain('CUPEL_TRAIN_MERGE_DIFFERS');
    const job = { ...jobOf(`${id}-stopped`, rows.pairs), openSaved };
    const { signal, sink } = stopAfter(2);
    await expect(trainServices.run(job, dpo, used, sink, signal)).rejects.toThrow('stopped');
    expect(await trainServices.run({ ...job, resume: true }, dpo, used, () => {})).toEqual(expected);
    expect(await digest(job)).toBe(await digest(straight));
    expect(await digest(job)).not.toBe(await sha256File(join(base.path, 'model.safetensors')));
  });

  it('goes on to the same bytes after its process was killed while it wrote a checkpoint', async () => {
    const straight = jobOf('kill-straight', rows.answers);
    await trainServices.run(straight, sft, small, () => {});
    const job = jobOf('killed', rows.answers);
    const child = spawn(
      process.execPath,
      [
        '--import',
        'tsx',
        fileURLToPath(new URL('./train-and-hang.ts', import.meta.url)),
        job.output,
        job.work as string,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    await new Promise<void>((resolve, reject) => {
      child.stdout.once('data', () => resolve());
      child.once('exit', (code) => reject(new Error(`the child ended with ${code}`)));
    });
    child.removeAllListeners('exit');
    const ended = new Promise((resolve) => child.once('exit', (_, signal) => resolve(signal)));
    child.kill('SIGKILL');
    expect(await ended).toBe('SIGKILL');
    const checkpoints = join(job.work as string, 'checkpoints');
    expect((await readdir(checkpoints)).sort()).toEqual(['step-2', 'step-3', 'step-4.partial']);
    const events: TrainEvent[] = [];
    await trainServices.run({ ...job, resume: true }, sft, small, (event) => events.push(event));
    expect(events.find(({ type }) => type === 'step')).toMatchObject({ step: 4 });
    expect(await digest(job)).toBe(await digest(straight));
    expect(existsSync(join(checkpoints, 'step-4.partial'))).toBe(false);
  });
});

describe('a checkpoint of the native engine', () => {
  it('is asked whether it ends its answers, with the same result each time', async () => {
    const checkpoint = { id: 'base', path: join(import.meta.dirname, '../../fixtures/reference/e2e') };
    const model = await native.open(checkpoint, { threads: 1 });
    const rows = (await readTrainingRows(join(checkpoint.path, 'sft.jsonl'))).slice(0, 5);
    const folder = await mkdtemp(join(tmpdir(), 'cupel-stop-native-'));
    try {
      const rates: (number | undefined)[] = [];
      for (const name of ['a', 'b']) {
        const job: TrainJob = {
          id: name,
          base: checkpoint,
          model,
          openLearner: (options) => model.learner?.({ ...options, threads: 1 }) as Promise<Learner>,
          openTeacher: null,
          openSavedModel: (path) => native.open({ id: name, path }, { threads: 1 }),
          services: trainServices,
          data: rows,
          replay: null,
          parameters: {},
          seed: 2,
          output: join(folder, name),
          work: null,
          resume: false,
          validation: null,
        };
        rates.push((await trainServices.run(job, sft, recipe, () => {})).metrics['stop_rate']);
      }
      expect(rates[0]).toBeGreaterThanOrEqual(0);
      expect(rates[1]).toBe(rates[0]);
      const [one, two] = ['a', 'b'].map((name) => readFileSync(join(folder, name, 'cupel_run.json'), 'utf8'));
      expect(two).toBe(one);
    } finally {
      await model.close();
      await rm(folder, { recursive: true, force: true });
    }
  });
});
