import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Completion, Engine, LearnerOptions, Model, TrainJob, TrainingRow } from '../../src/contracts/index.ts';
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

/** What a job of a trainer needs beside the rows that every other learns from. */
const needed: Readonly<Record<string, Partial<TrainJob>>> = {
  merge: {
    base,
    data: [],
    parameters: {
      models: [
        { path: base.path, weight: 0.25 },
        { path: base.path, weight: 0.75 },
      ],
    },
  },
};

describe.each(trainers)('trainer %s', (id, trainer) => {
  const openLearner = (options: LearnerOptions) =>
    model.learner?.({ threads: 1, ...options }) ?? Promise.reject(new Error('the engine does not learn'));

  /** Trained elsewhere, by programs that are set up on request: held to the contract as far as that goes without them. */
  const elsewhere = trainer.environment !== undefined;
  /** A reward model has no head over tokens: it ranks texts, and writes none. */
  const ranks = id === 'reward';
  const takesRows = needed[id]?.data === undefined;

  function jobOf(name: string, change: Partial<TrainJob>): TrainJob {
    const none = { base: null, model: null, openLearner: null, openTeacher: null, services: null };
    const opened = {
      base,
      model,
      openLearner: trainer.needs === 'learner' ? openLearner : null,
      openTeacher: trainer.needs === 'learner' ? openLearner : null,
      services: trainServices,
    };
    return {
      id: name,
      ...(trainer.needs === 'data' ? none : opened),
      data: rows,
      replay: null,
      parameters: {},
      seed: 5,
      output: join(folder, id, name),
      work: null,
      resume: false,
      validation: null,
      ...needed[id],
      ...change,
    };
  }

  async function withJob<T>(name: string, change: Partial<TrainJob>, use: (job: TrainJob) => Promise<T>): Promise<T> {
    return use(jobOf(name, { data: await suitableRows(), ...change }));
  }

  /** Rows of the kind that the trainer learns from. */
  async function suitableRows(): Promise<readonly TrainingRow[]> {
    if (trainer.needs === 'data') return needed[id]?.data ?? rows;
    try {
      await trainer.plan(jobOf('probe', {}));
      return rows;
    } catch (error) {
      expect(error).toMatchObject({ code: 'CUPEL_TRAIN_ROW_KIND' });
      return pairs;
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
      const { seconds, ...counts } = plan;
      expect(Object.values(counts).every((value) => Number.isSafeInteger(value) && value >= 0)).toBe(true);
      expect(seconds === null || seconds >= 0).toBe(true);
      expect(plan.steps).toBeGreaterThan(0);
      expect(await readdir(folder, { recursive: true })).toEqual(before);
      expect(await digestFolder(base.path)).toBe(digest);
    }));

  it.skipIf(elsewhere)('writes the same bytes for the same job, and a checkpoint that an engine opens', async () => {
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
    if (ranks) return;
    const trained = await (engines[accepted.indexOf(true)] as Engine).open(checkpoint);
    const completions: Completion[] = [];
    for await (const completion of trained.generate([
      { id: 'a', prompt: { messages: [{ role: 'user', content: 'Where is parcel 621?' }] }, maxTokens: 4 },
    ]))
      completions.push(completion);
    expect(completions.map(({ id: request, finish }) => [request, finish === 'error'])).toEqual([['a', false]]);
    await trained.close();
  });

  it.skipIf(elsewhere)('reports steps in order', () =>
    withJob('events', {}, async (job) => {
      const steps: number[] = [];
      await trainer.train(job, (event) => {
        if (event.type === 'step') steps.push(event.step);
        if (event.type === 'progress') steps.push(event.done);
      });
      expect(steps.length).toBeGreaterThan(0);
      expect(steps).toEqual([...steps].sort((a, b) => a - b));
    }),
  );

  it('refuses unknown parameters', () =>
    withJob('unknown', { parameters: { no_such_option: 1 } }, (job) =>
      expect(trainer.train(job, () => {})).rejects.toMatchObject({ code: 'CUPEL_FIELD_UNKNOWN' }),
    ));

  it.runIf(takesRows)('refuses data without rows', () =>
    withJob('empty', { data: [] }, (job) =>
      expect(trainer.train(job, () => {})).rejects.toMatchObject({ code: expect.stringMatching(/^CUPEL_/) as string }),
    ),
  );

  it.skipIf(elsewhere)('refuses a folder that exists', () =>
    withJob('exists', { output: folder }, (job) =>
      expect(trainer.train(job, () => {})).rejects.toMatchObject({
        code: expect.stringMatching(/OUTPUT_EXISTS$/) as string,
      }),
    ),
  );
});
