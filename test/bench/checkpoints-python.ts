// Proves that what Cupel writes is what Transformers and PEFT read: checkpoints and adapters that were trained, merged and
// extended here, opened there, with equal tokens and equal log-probabilities. Sets up its own Python. Exit code 1 where
// one differs: this is a proof and not a measurement.
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { AdapterOptions, Model, Progress, TokenBatch, TrainJob } from '../../src/contracts/index.ts';
import native from '../../engines/native/index.ts';
import { readTrainingRows } from '../../src/data/index.ts';
import { extendCheckpoint } from '../../src/jobs/extend-vocabulary.ts';
import { mergeAdapter, mergeModels } from '../../src/jobs/merge-models.ts';
import { packageRoot, type Tensor, writeSafetensors } from '../../src/kit/index.ts';
import { openRegistry } from '../../src/plugins/registry.ts';
import { trainServices } from '../../src/train/index.ts';
import { pythonWith } from './lib/python.ts';
import { table } from './lib/table.ts';
import { torchPackages } from './lib/torch-packages.ts';

/** Largest difference of a log-probability: two orders of float sums over four layers. */
const limit = 1e-4;

interface Work {
  readonly work: string;
  readonly folder: string;
  readonly adapter: string | null;
}

const { values } = parseArgs({ options: { json: { type: 'boolean', default: false }, python: { type: 'string' } } });
const say = (text: string): void => void process.stderr.write(`${text}\n`);
const print = (text: string): void => void process.stdout.write(`${text}\n`);
const cache = fileURLToPath(new URL('../../.cache/bench', import.meta.url));
const base = join(packageRoot(), 'fixtures', 'base');
const data = join(packageRoot(), 'fixtures', 'tickets', 'train.jsonl');
const adapterShape: AdapterOptions = { rank: 8, alpha: 16 };

say('making the Python environment, where it is not there yet');
const python = values.python ?? pythonWith(join(cache, 'torch'), torchPackages);
const folder = await mkdtemp(join(tmpdir(), 'cupel-checkpoints-'));
try {
  say('training, merging and extending checkpoints');
  const works = await makeWorks();
  const prepared: object[] = [];
  for (const work of works) prepared.push(await withExpected(work));
  const file = join(folder, 'works.json');
  await writeFile(file, JSON.stringify(prepared));
  say('opening them in Transformers and PEFT');
  const script = fileURLToPath(new URL('./checkpoints-python/peer_side.py', import.meta.url));
  const { status, stdout, stderr } = spawnSync(python, [script, file], { encoding: 'utf8', maxBuffer: 1 << 26 });
  if (status !== 0) throw new Error(`the Python side failed: ${stderr.slice(-2000)}`);
  const found = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { work: string; difference: number; sameTokens: boolean; tokens: number })
    .map((row) => ({ ...row, limit, holds: row.sameTokens && row.difference <= limit }));
  const missing = works.length - found.length;
  if (values.json) for (const row of found) print(JSON.stringify(row));
  else {
    const rows = found.map(({ work, tokens, difference, sameTokens, holds }) => [
      work,
      `${tokens}`,
      difference.toExponential(1),
      sameTokens ? 'yes' : 'NO',
      holds ? 'yes' : 'NO',
    ]);
    print(table(['checkpoint', 'tokens', 'largest difference', 'same tokens', `within ${limit}`], rows));
  }
  process.exitCode = missing === 0 && found.every(({ holds }) => holds) ? 0 : 1;
} finally {
  await rm(folder, { recursive: true, force: true });
}

async function makeWorks(): Promise<readonly Work[]> {
  const at = (name: string): string => join(folder, name);
  const task = { advance: () => {}, detail: () => {}, end: () => {} };
  const progress: Progress = { note: () => {}, begin: () => task };
  const step = { base, seed: 1, threads: 1, progress, signal: new AbortController().signal };
  const short = { epochs: 1, maxSteps: 3, batchSize: 8, learningRate: 1e-3 };
  await train('full', { ...short, dtype: 'f32' });
  await train('full-bf16', { ...short, dtype: 'bf16' });
  const tuning = { kind: 'lora', ...adapterShape };
  await train('adapter', { ...short, learningRate: 1e-2, dtype: 'f32', tuning: { ...tuning, save: 'adapter' } });
  const merge = { ...step, adapter: at('adapter'), dtype: 'f32', baseType: null } as const;
  await mergeAdapter({ ...merge, output: at('adapter-merged') });
  const parameters = { method: 'ties', dtype: 'f32', models: [{ path: at('full') }, { path: at('full-bf16') }] };
  await mergeModels({ ...step, output: at('ties'), parameters });
  const options = { tokens: 100, minimumCount: 3, multipleOf: 64 };
  await extendCheckpoint({ base, data: [data], options, output: at('extended'), threads: 1, progress });
  const whole = ['full', 'full-bf16', 'adapter-merged', 'ties', 'extended'];
  return [
    ...whole.map((work) => ({ work, folder: at(work), adapter: null })),
    { work: 'adapter over its base', folder: base, adapter: at('adapter') },
  ];
}

async function train(name: string, parameters: Readonly<Record<string, unknown>>): Promise<void> {
  const model = await native.open({ id: 'base', path: base }, { threads: 1 });
  try {
    const trainer = await (await openRegistry()).load('trainer', 'sft');
    const job: TrainJob = {
      id: name,
      base: { id: 'base', path: base },
      model,
      openLearner: (options) => learnerOf(model, options),
      openTeacher: null,
      services: trainServices,
      data: (await readTrainingRows(data)).slice(0, 24),
      replay: null,
      parameters,
      seed: 1,
      output: join(folder, name),
      work: null,
      resume: false,
      validation: null,
    };
    await trainer.train(job, () => {});
  } finally {
    await model.close();
  }
}

/** The work with what Cupel makes of it: token ids, and log-probabilities of the whole vocabulary in a file. */
async function withExpected(work: Work): Promise<object> {
  const texts = (await readTrainingRows(data))
    .slice(30, 38)
    .flatMap((row) => (row.kind === 'messages' ? row.messages.map(({ content }) => content) : []));
  const model = await native.open({ id: 'x', path: work.folder }, { threads: 1 });
  const adapter = work.adapter === null ? null : { ...adapterShape, from: work.adapter };
  const learner = await learnerOf(model, { frozen: true, adapter });
  try {
    const ids = texts.map((text) => [...model.tokenize(text)]);
    const tensors: Tensor[] = [];
    for (const [index, tokens] of ids.entries()) {
      const batch: TokenBatch = {
        tokens: Int32Array.from(tokens),
        offsets: Int32Array.of(0, tokens.length),
        labelled: Uint8Array.from(tokens, (_, position) => (position === 0 ? 0 : 1)),
      };
      const found = await learner.distributions(batch, null, { keep: false });
      const shape = [tokens.length - 1, found.length / (tokens.length - 1)];
      tensors.push({ name: `text-${String(index).padStart(2, '0')}`, dtype: 'F32', shape, data: found });
    }
    const expected = join(folder, `${work.work.replaceAll(' ', '-')}.safetensors`);
    await writeSafetensors(expected, tensors);
    return { ...work, texts, ids, expected };
  } finally {
    await learner.close();
    await model.close();
  }
}

function learnerOf(
  model: Model,
  options: Parameters<NonNullable<Model['learner']>>[0],
): ReturnType<NonNullable<Model['learner']>> {
  if (model.learner === undefined) throw new Error(`${model.engine} has no learner`);
  return model.learner({ threads: 1, ...options });
}
