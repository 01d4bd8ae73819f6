import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Model, Trainer, TrainEvent, TrainingRecord, TrainingRow, TrainJob } from '../../src/contracts/index.ts';
import native from '../../engines/native/index.ts';
import { digestFolder, packageRoot } from '../../src/kit/index.ts';
import { openProject } from '../../src/jobs/project.ts';
import { trainCheckpoint } from '../../src/jobs/train.ts';
import { openRegistry } from '../../src/plugins/registry.ts';
import { trainServices } from '../../src/train/index.ts';
import { smallProject } from '../lib/project.ts';

const base = join(packageRoot(), 'fixtures/base');
let folder: string;
let model: Model;
let trainer: Trainer;

const text = (id: string, content: string): TrainingRow => ({ id, kind: 'text', text: content });
const sentence = (index: number): string => `The zyxquor unit ${index} hums. A glimmerfax, too, and the zyxquor again.`;
const documents = [...Array(12).keys()].map((index) =>
  text(`d${index}`, [0, 1].map((k) => sentence(2 * index + k)).join(' ')),
);
const known = [...Array(6).keys()].map((index) => text(`k${index}`, `Where is my parcel ${index}? It is late.`));

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cupel-continued-'));
  model = await native.open({ id: 'base', path: base }, { threads: 1 });
  trainer = await (await openRegistry()).load('trainer', 'continued-pretraining');
});
afterAll(async () => {
  await model.close();
  await rm(folder, { recursive: true, force: true });
});

function job(name: string, parameters: Readonly<Record<string, unknown>>, change: Partial<TrainJob> = {}): TrainJob {
  return {
    id: name,
    base: { id: 'base', path: base },
    model,
    openLearner: (options) => model.learner?.({ threads: 1, ...options }) ?? Promise.reject(new Error('no learner')),
    openTeacher: null,
    services: trainServices,
    data: documents,
    replay: null,
    parameters: { epochs: 1, batchSize: 4, maxTokens: 64, ...parameters },
    seed: 5,
    output: join(folder, name),
    work: null,
    resume: false,
    validation: null,
    ...change,
  };
}

describe('continued pretraining', () => {
  it('learns every token of documents, cut into windows', async () => {
    const { losses, trainedTokens } = await trainer.train(job('plain', { epochs: 3, learningRate: 1e-3 }), () => {});
    expect(losses.at(-1)).toBeLessThan(0.8 * (losses[0] as number));
    const tokens = documents.reduce((sum, row) => sum + (row.kind === 'text' ? model.tokenize(row.text).length : 0), 0);
    // Each document also has its end; each further window repeats a token.
    expect(trainedTokens).toBeGreaterThanOrEqual(3 * (tokens + documents.length));
    expect(trainedTokens).toBeLessThan(3.2 * (tokens + documents.length));
  });

  it.each([0.1, 0.3])('replays %f of the tokens, to the nearest row', async (share) => {
    const replay = { rows: known, perStep: 1 };
    const events: TrainEvent[] = [];
    const one = job(`share-${share}`, { replayShare: share }, { replay });
    await trainer.train(one, (event) => events.push(event));
    const alone: TrainEvent[] = [];
    await trainer.train(job(`alone-${share}`, {}), (event) => alone.push(event));
    const tokens = (list: readonly TrainEvent[]): number =>
      list.reduce((sum, event) => sum + (event.type === 'step' ? event.tokens : 0), 0);
    const found = 1 - tokens(alone) / tokens(events);
    expect(Math.abs(found - share)).toBeLessThan(0.04);
  });

  it('refuses a share of nothing', async () => {
    await expect(trainer.train(job('none', { replayShare: 0.2 }), () => {})).rejects.toMatchObject({
      code: 'CUPEL_TRAINER_PARAMETER',
    });
  });
});

it('with `vocabulary`, a training extends its base first, and the chain of parents has no gap', async () => {
  const small = smallProject();
  const corpus = small.write(
    'corpus.jsonl',
    documents.map((row) => `${JSON.stringify({ text: row.kind === 'text' ? row.text : '' })}\n`).join(''),
  );
  const notes: string[] = [];
  const task = { advance: () => {}, detail: () => {}, end: () => {} };
  const project = await openProject({
    config: small.config,
    threads: 1,
    progress: { note: (line) => notes.push(line), begin: () => task },
    signal: new AbortController().signal,
  });
  const step = {
    checkpoint: 'new',
    trainer: 'continued-pretraining',
    base: 'base',
    data: [corpus],
    replay: null,
    parameters: { epochs: 1, batchSize: 4, vocabulary: { tokens: 20, minimumCount: 4 } },
    role: 'candidate',
    description: '',
  };
  const trained = await trainCheckpoint(project, step);
  const candidates = project.at('candidates');
  const record = async (name: string): Promise<TrainingRecord> =>
    JSON.parse(await readFile(join(candidates, name, 'cupel_run.json'), 'utf8')) as TrainingRecord;
  expect((await readdir(candidates)).sort()).toEqual(['new', 'new-base', 'new-base.json', 'new.json']);
  expect((await record('new')).parent).toBe(await digestFolder(join(candidates, 'new-base')));
  expect((await record('new-base')).parent).toBe(model.digest);
  expect(JSON.parse(await readFile(join(candidates, 'new.json'), 'utf8'))).toMatchObject({
    training: { base: 'new-base', parent: (await record('new')).parent },
  });
  expect(trained).toMatchObject({ checkpoint: 'new', digest: await digestFolder(join(candidates, 'new')) });
  expect(notes.join('\n')).toMatch(
    /\d+ new tokens \(2048 to 2112 rows\): \d\.\d+ to \d\.\d+ tokens a word on text kept apart/,
  );
  const opened = await native.open({ id: 'new', path: join(candidates, 'new') }, { threads: 1 });
  expect(opened.tokenize(' zyxquor').length).toBeLessThan(model.tokenize(' zyxquor').length);
  await opened.close();
});
