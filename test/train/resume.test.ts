import { existsSync } from 'node:fs';
import { cp, mkdtemp, readdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type {
  DistillationObjective,
  Objective,
  Recipe,
  TrainEvent,
  TrainJob,
  TrainResult,
} from '../../src/contracts/index.ts';
import { digestOf } from '../../src/kit/index.ts';
import { trainServices } from '../../src/train/index.ts';
import { dpoObjective } from '../../trainers/dpo.ts';
import { ktoObjective } from '../../trainers/kto.ts';
import { sftObjective } from '../../trainers/sft.ts';
import { BigramLearner } from './byte-model.ts';
import {
  baseRecipe,
  labelledRows,
  outputBytes,
  pairRows,
  readLog,
  replayRows,
  stopAfter,
  trainingJob,
} from './training-job.ts';

const sft = sftObjective({ replayWeight: 0.5 });
const dpo = dpoObjective({ beta: 0.1, nllWeight: 0.5, labelSmoothing: 0, replayWeight: 0.5 });
const kto = ktoObjective({ beta: 0.1, loss: 'kto', desirableWeight: 1, undesirableWeight: 1, replayWeight: 0.5 });
/** A pair is worth what its margin differs from the mean one of its step. */
const spread: Objective = {
  name: 'spread',
  version: '1.0.0',
  sequences: 'pair',
  reference: false,
  coupled: true,
  evaluate({ examples }) {
    const margins = examples.map(({ policy: [one, other] }) => sum(one) - sum(other));
    const mean = sum(margins) / margins.length;
    return {
      loss: margins.reduce((total, margin) => total + (margin - mean) ** 2, 0) / margins.length,
      gradients: examples.map(({ policy }, index) =>
        policy.map((list, side) =>
          Array.from(list, () => ((side === 0 ? 2 : -2) * ((margins[index] ?? 0) - mean)) / margins.length),
        ),
      ),
      replayGradients: [],
      metrics: { mean },
    };
  },
};
const sum = (list: ArrayLike<number> = []): number => Array.from(list).reduce((total, value) => total + value, 0);
const replay = { rows: replayRows, perStep: 1 };
const best = (step: number | string): object => ({ step, value: 1, mergeDifference: null });

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cupel-resume-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const run = (
  job: TrainJob,
  objective: Objective | DistillationObjective = sft,
  recipe: Partial<Recipe> = {},
  sink: (event: TrainEvent) => void = () => {},
  signal?: AbortSignal,
): Promise<TrainResult> => trainServices.run(job, objective, { ...baseRecipe, ...recipe }, sink, signal);

describe('a run that goes on', () => {
  it.each([
    ['fine-tuning with replay', sft, { replay }, {}],
    ['preference training with replay', dpo, { data: pairRows, replay }, {}],
    [
      'adapters with a preference loss',
      dpo,
      { data: pairRows },
      { tuning: { kind: 'lora' as const, rank: 2, alpha: 4 }, maxSteps: 5 },
    ],
    // Seven rows by three: the third step has one example, and takes its mismatched answer from the data.
    ['mismatched answers with replay', kto, { data: labelledRows, replay }, { maxSteps: 5 }],
    ['a coupled objective in parts', spread, { data: pairRows }, { maxSteps: 5, microBatchTokens: 1 }],
  ] as const)(
    'gives the bytes of one that was never interrupted, at every step: %s',
    async (_, objective, change, recipe) => {
      const straight = trainingJob(join(folder, 'straight'), change);
      const quiet = { ...recipe, checkpoints: null };
      const expected = await run(straight, objective, quiet);
      const bytes = await outputBytes(straight.output);
      expect(expected.steps).toBeGreaterThan(4);
      for (let step = 1; step < expected.steps; step++) {
        const job = trainingJob(join(folder, `at-${step}`), change);
        const { signal, sink, events } = stopAfter(step);
        await expect(run(job, objective, quiet, sink, signal)).rejects.toThrow('stopped');
        expect(events.at(-1)).toMatchObject({ type: 'checkpoint', step });
        expect(existsSync(job.output)).toBe(false);
        const seen: TrainEvent[] = [];
        const result = await run({ ...job, resume: true }, objective, quiet, (event) => seen.push(event));
        expect(seen.find(({ type }) => type === 'step')).toMatchObject({ step: step + 1 });
        expect(result).toEqual(expected);
        expect(await outputBytes(job.output)).toEqual(bytes);
        const steps = (await readLog(job.work as string)).map((line) => line.step);
        expect(steps).toEqual(Array.from({ length: expected.steps }, (__, index) => index + 1));
      }
    },
  );

  it('starts from the beginning where there is nothing to go on from', async () => {
    const job = trainingJob(folder, { resume: true });
    expect((await run(job)).steps).toBe(9);
  });

  it.each([
    ['other rows', 'CUPEL_TRAIN_RESUME_DATA', { data: trainingJob('').data.slice().reverse() }, {}],
    ['replayed rows', 'CUPEL_TRAIN_RESUME_DATA', { replay }, {}],
    ['another learning rate', 'CUPEL_TRAIN_RESUME_RECIPE', {}, { learningRate: 0.01 }],
    ['another seed', 'CUPEL_TRAIN_RESUME_RECIPE', { seed: 4 }, {}],
    ['more epochs', 'CUPEL_TRAIN_RESUME_STEPS', {}, { epochs: 4 }],
    ['another base', 'CUPEL_TRAIN_RESUME_BASE', { model: { ...trainingJob('').model, digest: 'sha256:b' } }, {}],
  ] as const)('refuses %s by name', async (_, code, change, recipe) => {
    const job = trainingJob(folder);
    const { signal, sink } = stopAfter(2);
    await expect(run(job, sft, {}, sink, signal)).rejects.toThrow('stopped');
    await expect(run({ ...job, ...(change as Partial<TrainJob>), resume: true }, sft, recipe)).rejects.toMatchObject({
      code,
      where: expect.stringContaining('step-2') as string,
    });
  });

  it('refuses another teacher, and takes the same one', async () => {
    const distillation: DistillationObjective = {
      name: 'forward-kl',
      version: '1.0.0',
      head: 'distribution',
      temperature: 1,
      topTokens: 4,
      evaluate: ({ student, teacher, totalWeight }) => ({
        loss: 0,
        gradients:
          student instanceof Float32Array
            ? student.map((_, at) => -Math.exp(teacher[at] ?? 0) / totalWeight)
            : new Float32Array(),
        metrics: {},
      }),
    };
    const taughtBy = (scale: number): TrainJob =>
      trainingJob(folder, { openTeacher: () => Promise.resolve(new BigramLearner({ scale })) });
    const { signal, sink } = stopAfter(2);
    await expect(run(taughtBy(1), distillation, {}, sink, signal)).rejects.toThrow('stopped');
    const again = (scale: number) => run({ ...taughtBy(scale), resume: true }, distillation);
    await expect(again(2)).rejects.toMatchObject({ code: 'CUPEL_TRAIN_RESUME_BASE' });
    expect((await again(1)).steps).toBe(9);
  });

  it('takes what never changes a result: checkpoints and recomputation', async () => {
    const job = trainingJob(folder);
    const { signal, sink } = stopAfter(2);
    await expect(run(job, sft, {}, sink, signal)).rejects.toThrow('stopped');
    const result = await run({ ...job, resume: true }, sft, {
      recompute: true,
      checkpoints: { everySteps: 4, keep: 1 },
    });
    expect(result.steps).toBe(9);
  });
});

describe('checkpoints', () => {
  it('are written every so many steps or tokens, and the oldest are removed', async () => {
    const job = trainingJob(folder);
    const events: TrainEvent[] = [];
    const { trainedTokens } = await run(job, sft, { checkpoints: { everySteps: 2, keep: 2 } }, (event) =>
      events.push(event),
    );
    const steps = events.flatMap((event) => (event.type === 'checkpoint' ? [event.step] : []));
    expect(steps).toEqual([2, 4, 6, 8]);
    expect((await readdir(join(job.work as string, 'checkpoints'))).sort()).toEqual(['step-6', 'step-8']);

    const other = trainingJob(join(folder, 'tokens'));
    const byTokens: number[] = [];
    const everyTokens = Math.ceil(trainedTokens / 3);
    await run(other, sft, { checkpoints: { everyTokens, keep: 9 } }, (event) => {
      if (event.type === 'checkpoint') byTokens.push(event.step);
    });
    expect(byTokens).toEqual([3, 6, 9]);
  });

  let whole: string;
  let expected: [string, string];
  beforeAll(async () => {
    whole = await mkdtemp(join(tmpdir(), 'cupel-whole-'));
    const straight = trainingJob(join(whole, 'straight'));
    await run(straight);
    expected = await outputBytes(straight.output);
    const job = trainingJob(join(whole, 'stopped'));
    const { signal, sink } = stopAfter(5);
    await run(job, sft, {}, sink, signal).catch(() => {});
  });
  afterAll(() => rm(whole, { recursive: true, force: true }));

  it.each([
    ['learner.state is cut', (path: string) => truncate(join(path, 'learner.state'), 100), /has 100 bytes of/],
    [
      'learner.state has another byte',
      async (path: string) => {
        const bytes = await readFile(join(path, 'learner.state'));
        bytes[50] = (bytes[50] ?? 0) ^ 1;
        await writeFile(join(path, 'learner.state'), bytes);
      },
      /learner.state is not what was written/,
    ],
    ['state.json is cut', (path: string) => truncate(join(path, 'state.json'), 40), /JSON/],
    [
      'state.json tells another loss',
      async (path: string) => {
        const text = await readFile(join(path, 'state.json'), 'utf8');
        await writeFile(join(path, 'state.json'), text.replace('"trainedTokens":', '"trainedTokens":1'));
      },
      /state.json is not what was written/,
    ],
    ['learner.state is gone', (path: string) => rm(join(path, 'learner.state')), /ENOENT/],
  ] as const)('are passed over when damaged: %s', async (_, damage, reason) => {
    await cp(join(whole, 'stopped'), folder, { recursive: true });
    const job = trainingJob(folder, { resume: true });
    await damage(join(job.work as string, 'checkpoints', 'step-5'));
    const events: TrainEvent[] = [];
    await run(job, sft, {}, (event) => events.push(event));
    const warning = events.find((event) => event.type === 'warning' && event.code === 'CUPEL_TRAIN_CHECKPOINT_DAMAGED');
    expect(warning).toMatchObject({ message: expect.stringMatching(reason) as string });
    expect(events.find(({ type }) => type === 'step')).toMatchObject({ step: 5 });
    expect(await outputBytes(job.output)).toEqual(expected);
  });

  it.each([
    ['a best step that is a path', { validation: { measured: 5, best: best('../../secrets'), since: 0 } }, /best step/],
    ['a best step that was never measured', { validation: { measured: 2, best: best(4), since: 0 } }, /best step/],
    ['losses of other steps', { progress: { losses: [1, 2] } }, /losses of 5 steps/],
    ['losses that are no numbers', { progress: { losses: ['1', '2', '3', '4', '5'] } }, /losses of 5 steps/],
    ['no list of warnings', { progress: { warned: null } }, /warnings/],
    ['metrics that are no numbers', { progress: { metrics: { loss: 'low' } } }, /metrics/],
    ['negative tokens', { progress: { trainedTokens: -1 } }, /tokens are -1/],
    ['nothing', null, /no state/],
    ['no identity', 'identity', /of which run/],
  ] as const)('are passed over where someone wrote %s with a digest that fits', async (_, change, reason) => {
    await cp(join(whole, 'stopped'), folder, { recursive: true });
    const job = trainingJob(folder, { resume: true });
    const file = join(job.work as string, 'checkpoints', 'step-5', 'state.json');
    const { digest: _old, ...content } = JSON.parse(await readFile(file, 'utf8')) as {
      digest: string;
      state: Record<string, object>;
    };
    const state =
      change === null || change === 'identity'
        ? null
        : Object.entries(change).reduce(
            (all, [part, values]) => ({ ...all, [part]: { ...content.state[part], ...values } }),
            content.state,
          );
    const hostile = { ...content, state, ...(change === 'identity' && { identity: null }) };
    await writeFile(file, JSON.stringify({ ...hostile, digest: digestOf(hostile) }));
    const events: TrainEvent[] = [];
    await run(job, sft, {}, (event) => events.push(event));
    expect(
      events.find((event) => event.type === 'warning' && event.code === 'CUPEL_TRAIN_CHECKPOINT_DAMAGED'),
    ).toMatchObject({ message: expect.stringMatching(reason) as string });
    expect(await outputBytes(job.output)).toEqual(expected);
  });

  it('of the same step replace each other without a moment in which neither is there', async () => {
    await cp(join(whole, 'stopped'), folder, { recursive: true });
    const job = trainingJob(folder, { resume: true });
    const at = (name: string): string => join(job.work as string, 'checkpoints', name);
    await rm(at('step-4'), { recursive: true });
    await cp(at('step-5'), at('step-5.partial'), { recursive: true });
    await rename(at('step-5'), at('step-5.old'));
    const steps: number[] = [];
    await run(job, sft, {}, (event) => event.type === 'step' && steps.push(event.step));
    expect(steps[0]).toBe(6);
    expect(await outputBytes(job.output)).toEqual(expected);
  });

  it('that are damaged never push out whole ones', async () => {
    await cp(join(whole, 'stopped'), folder, { recursive: true });
    const job = trainingJob(folder, { resume: true });
    const checkpoints = join(job.work as string, 'checkpoints');
    await cp(join(checkpoints, 'step-5'), join(checkpoints, 'step-8'), { recursive: true });
    const { signal, sink } = stopAfter(6);
    await expect(run(job, sft, { checkpoints: { everySteps: 1, keep: 1 } }, sink, signal)).rejects.toThrow('stopped');
    expect(await readdir(checkpoints)).toEqual(['step-6']);
    await run(job);
    expect(await outputBytes(job.output)).toEqual(expected);
  });

  it('that were being written when the process died are no checkpoints', async () => {
    await cp(join(whole, 'stopped'), folder, { recursive: true });
    const job = trainingJob(folder, { resume: true });
    const at = (name: string): string => join(job.work as string, 'checkpoints', name);
    await cp(at('step-5'), at('step-6.partial'), { recursive: true });
    await truncate(join(at('step-6.partial'), 'learner.state'), 10);
    await writeFile(join(job.work as string, 'log.jsonl'), '{"type":"step","st', { flag: 'a' });
    await run(job);
    expect(await outputBytes(job.output)).toEqual(expected);
    expect((await readLog(job.work as string)).map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  it('that do not fit on the disk stop the run with the last whole one named, and it goes on from there', async () => {
    let writes = 0;
    const full = trainingJob(folder, {}, (options) => {
      const learner = new BigramLearner({ ...options, scale: 0.3 });
      const saveState = learner.saveState.bind(learner);
      learner.saveState = async (file) => {
        await saveState(file);
        if (++writes < 4) return;
        await truncate(file, 1000);
        throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
      };
      return learner;
    });
    const checkpoints = join(full.work as string, 'checkpoints');
    await expect(run(full)).rejects.toMatchObject({
      code: 'CUPEL_TRAIN_CHECKPOINT_FAILED',
      message: `step 4: ENOSPC: no space left on device, write; last whole one: ${join(checkpoints, 'step-3')}`,
    });
    expect((await readdir(checkpoints)).sort()).toEqual(['step-2', 'step-3']);
    const job = trainingJob(folder, { resume: true });
    await run(job);
    expect(await outputBytes(job.output)).toEqual(expected);
  });

  it('hold what was trained when the result does not fit on the disk', async () => {
    const full = trainingJob(folder, {}, (options) => {
      const learner = new BigramLearner({ ...options, scale: 0.3 });
      learner.save = () => Promise.reject(new Error('ENOSPC: no space left on device, write'));
      return learner;
    });
    await expect(run(full, sft, { checkpoints: null })).rejects.toMatchObject({
      code: 'CUPEL_TRAIN_CHECKPOINT_FAILED',
      message: `the result: ENOSPC: no space left on device, write; last whole one: ${join(folder, 'work', 'checkpoints', 'step-9')}`,
    });
    expect(await readdir(folder)).toEqual(['work']);
    const steps: number[] = [];
    const job = trainingJob(folder, { resume: true });
    await run(job, sft, {}, (event) => event.type === 'step' && steps.push(event.step));
    expect(steps).toEqual([]);
    expect(await outputBytes(job.output)).toEqual(expected);
  });

  it('are kept when a number is not finite, and named with the rows', async () => {
    const job = trainingJob(folder, {}, (options) => {
      const learner = new BigramLearner({ ...options, scale: 0.3 });
      const step = learner.step.bind(learner);
      let steps = 0;
      learner.step = async (at) => (++steps === 4 ? { gradNorm: Infinity } : step(at));
      return learner;
    });
    await expect(run(job)).rejects.toMatchObject({
      code: 'CUPEL_TRAIN_NOT_FINITE',
      message: `step 4: the gradient norm is Infinity; last good one: ${join(job.work as string, 'checkpoints', 'step-3')}`,
      where: expect.stringMatching(/^rows r\d, r\d, r\d$/) as string,
    });
    const good = trainingJob(folder, { resume: true });
    await run(good);
    expect(await outputBytes(good.output)).toEqual(expected);
  });
});

describe('reference log-probabilities', () => {
  it('are computed once, kept by content, and computed anew when the file is damaged', async () => {
    let forwards = 0;
    const counting = (name: string, change: Partial<TrainJob> = {}): TrainJob => ({
      ...trainingJob(folder, { data: pairRows, output: join(folder, name), ...change }, (options) => {
        const learner = new BigramLearner({ ...options, scale: 0.3 });
        const logProbabilities = learner.logProbabilities.bind(learner);
        learner.logProbabilities = (batch, forward) => {
          forwards++;
          return logProbabilities(batch, forward);
        };
        return learner;
      }),
    });
    const count = async (job: TrainJob): Promise<[number, TrainEvent[]]> => {
      forwards = 0;
      const events: TrainEvent[] = [];
      await run(job, dpo, { checkpoints: null }, (event) => events.push(event));
      return [forwards, events];
    };
    const [first] = await count(counting('first'));
    const [second] = await count(counting('second'));
    expect(second).toBeLessThan(first);
    const cache = join(folder, 'work', 'references');
    const [file] = await readdir(cache);
    const bytes = await readFile(join(cache, file as string));
    bytes[40] = (bytes[40] ?? 0) ^ 1;
    await writeFile(join(cache, file as string), bytes);
    const [third, events] = await count(counting('third'));
    expect(third).toBe(first);
    expect(events.map((event) => event.type === 'warning' && event.code)).toContain('CUPEL_TRAIN_REFERENCES_DAMAGED');
    expect(await outputBytes(join(folder, 'third'))).toEqual(await outputBytes(join(folder, 'first')));
    const [other] = await count(counting('other', { data: pairRows.slice(1) }));
    expect(other).toBeGreaterThan(second);
    expect(await readdir(cache)).toHaveLength(2);
  });
});
