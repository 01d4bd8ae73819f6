import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Completion, Engine, Learner, Model, TrainJob, TrainingRow } from '../../src/contracts/index.ts';
import { checkAgainst, compileSchema, digestFolder, listFileDigests, packageRoot } from '../../src/kit/index.ts';
import { readTrainingRows } from '../../src/data/index.ts';
import { openRegistry } from '../../src/plugins/registry.ts';
import { trainServices } from '../../src/train/index.ts';

const base = { id: 'base', path: join(packageRoot(), 'fixtures/reference/e2e') };
const registry = await openRegistry();
const trainers = await Promise.all(
  (await registry.ids('trainer')).map(async (id) => [id, await registry.load('trainer', id)] as const),
);

let folder: string;
let rows: readonly TrainingRow[];
let pairs: readonly TrainingRow[];
let native: Engine;
let model: Model;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cupel-trainers-'));
  const all = await readTrainingRows(join(base.path, 'sft.jsonl'));
  // Classical baselines need a JSON object as answer.
  rows = all.filter((row) => row.kind === 'messages' && row.messages.at(-1)?.content.startsWith('{')).slice(0, 8);
  pairs = (await readTrainingRows(join(base.path, 'dpo.jsonl'))).slice(0, 8);
  native = await registry.load('engine', 'native');
  model = await native.open(base, { threads: 1 });
});
afterAll(async () => {
  await model.close();
  await rm(folder, { recursive: true, force: true });
});

it('there are trainers to test', () => expect(trainers.length).toBeGreaterThan(3));

describe.each(trainers)('trainer %s', (id, trainer) => {
  async function withJob<T>(name: string, change: Partial<TrainJob>, use: (job: TrainJob) => Promise<T>): Promise<T> {
    const learner: Learner | null =
      trainer.needs === 'learner' ? ((await model.learner?.({ threads: 1 })) ?? null) : null;
    const opened =
      learner === null
        ? { base: null, model: null, learner, services: null }
        : { base, model, learner, services: trainServices };
    try {
      return await use({
        id: name,
        ...opened,
        data: await suitableRows(),
        replay: null,
        parameters: {},
        seed: 5,
        output: join(folder, id, name),
        ...change,
      });
    } finally {
      await learner?.close();
    }
  }

  /** Rows of the kind that the trainer learns from. */
  async function suitableRows(): Promise<readonly TrainingRow[]> {
    if (trainer.needs === 'data') return rows;
    const job: TrainJob = {
      id: 'probe',
      base,
      model,
      learner: await (model.learner?.({ threads: 1 }) ?? null),
      services: trainServices,
      data: rows,
      replay: null,
      parameters: {},
      seed: 1,
      output: join(folder, 'probe'),
    };
    try {
      await trainer.plan(job);
      return rows;
    } catch (error) {
      expect(error).toMatchObject({ code: 'CUPEL_TRAIN_ROW_KIND' });
      return pairs;
    } finally {
      await job.learner?.close();
    }
  }

  it('says what it is', () => {
    expect(trainer.kind).toBe('trainer');
    expect(trainer.summary).toMatch(/^[A-Z].{10,}/);
    expect(trainer.version).toMatch(/^\d+\.\d+\.\d+$/);
  });

  it('has options that compile, take nothing, and refuse what they do not know', () => {
    const validate = compileSchema(trainer.options, id);
    expect(checkAgainst(validate, {}, id)).toEqual({});
    expect(() => checkAgainst(validate, { no_such_option: 1 }, id)).toThrow(
      expect.objectContaining({ code: 'CUPEL_FIELD_UNKNOWN' }),
    );
  });

  it('plans without side effects', () =>
    withJob('plan', {}, async (job) => {
      const [before, digest] = [await readdir(folder, { recursive: true }), await digestFolder(base.path)];
      const plan = await trainer.plan(job);
      expect(Object.values(plan).every((value) => Number.isSafeInteger(value) && value >= 0)).toBe(true);
      expect(plan.steps).toBeGreaterThan(0);
      expect(await readdir(folder, { recursive: true })).toEqual(before);
      expect(await digestFolder(base.path)).toBe(digest);
    }));

  it('writes the same bytes for the same job, and a checkpoint that an engine opens', async () => {
    const run = (name: string): Promise<{ files: unknown; result: unknown; path: string }> =>
      withJob(name, {}, async (job) => {
        const result = await trainer.train(job, () => {});
        return { result, files: await listFileDigests(job.output), path: job.output };
      });
    const [first, second] = [await run('one'), await run('two')];
    expect(second.files).toEqual(first.files);
    expect(second.result).toEqual(first.result);
    expect((first.files as { path: string }[]).map(({ path }) => path)).toContain('cupel_run.json');
    const engines = await Promise.all((await registry.ids('engine')).map((engine) => registry.load('engine', engine)));
    const checkpoint = { id: 'trained', path: first.path };
    const accepted = await Promise.all(engines.map((engine) => engine.accepts(checkpoint)));
    expect(accepted.filter(Boolean)).toHaveLength(1);
    const trained = await (engines[accepted.indexOf(true)] as Engine).open(checkpoint);
    const completions: Completion[] = [];
    for await (const completion of trained.generate([
      { id: 'a', prompt: { messages: [{ role: 'user', content: 'Where is parcel 621?' }] }, maxTokens: 4 },
    ]))
      completions.push(completion);
    expect(completions.map(({ id: request, finish }) => [request, finish === 'error'])).toEqual([['a', false]]);
    await trained.close();
  });

  it('reports steps in order', () =>
    withJob('events', {}, async (job) => {
      const steps: number[] = [];
      await trainer.train(job, (event) => event.type === 'step' && steps.push(event.step));
      expect(steps.length).toBeGreaterThan(0);
      expect(steps).toEqual([...steps].sort((a, b) => a - b));
    }));

  it('refuses unknown parameters, data without rows, and a folder that exists', async () => {
    await withJob('unknown', { parameters: { no_such_option: 1 } }, (job) =>
      expect(trainer.train(job, () => {})).rejects.toMatchObject({ code: 'CUPEL_FIELD_UNKNOWN' }),
    );
    await withJob('empty', { data: [] }, (job) =>
      expect(trainer.train(job, () => {})).rejects.toMatchObject({ code: expect.stringMatching(/^CUPEL_/) as string }),
    );
    await withJob('exists', { output: folder }, (job) =>
      expect(trainer.train(job, () => {})).rejects.toMatchObject({
        code: expect.stringMatching(/OUTPUT_EXISTS$/) as string,
      }),
    );
  });
});
