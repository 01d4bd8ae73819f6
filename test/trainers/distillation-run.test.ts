import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Model, TokenBatch, Trainer, TrainingRow, TrainJob } from '../../src/contracts/index.ts';
import native from '../../engines/native/index.ts';
import { readTrainingRows } from '../../src/data/index.ts';
import { packageRoot, Random, readSafetensors, writeSafetensors } from '../../src/kit/index.ts';
import { checkTeacherVocabulary } from '../../src/jobs/teacher-vocabulary.ts';
import { openRegistry } from '../../src/plugins/registry.ts';
import { trainServices } from '../../src/train/index.ts';

const base = join(packageRoot(), 'fixtures/reference/e2e');
let folder: string;
let student: Model;
let teacher: Model;
let trainer: Trainer;
let rows: readonly TrainingRow[];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cupel-distillation-'));
  // A teacher that differs in every weight.
  await cp(base, join(folder, 'teacher'), { recursive: true });
  const { tensors } = await readSafetensors(join(base, 'model.safetensors'));
  const random = new Random(3, 'teacher');
  await writeSafetensors(
    join(folder, 'teacher', 'model.safetensors'),
    [...tensors.values()].map((tensor) => ({
      ...tensor,
      data: tensor.data.map((value) => value + 0.08 * random.normal()),
    })),
  );
  student = await native.open({ id: 'student', path: base }, { threads: 1 });
  teacher = await native.open({ id: 'teacher', path: join(folder, 'teacher') }, { threads: 1 });
  trainer = await (await openRegistry()).load('trainer', 'distillation');
  rows = await readTrainingRows(join(base, 'sft.jsonl'));
});
afterAll(async () => {
  await student.close();
  await teacher.close();
  await rm(folder, { recursive: true, force: true });
});

function job(name: string, parameters: Readonly<Record<string, unknown>>, change: Partial<TrainJob> = {}): TrainJob {
  return {
    id: name,
    base: { id: 'student', path: base },
    model: student,
    openLearner: (options) => student.learner?.({ threads: 1, ...options }) ?? Promise.reject(new Error('no learner')),
    openTeacher: (options) => teacher.learner?.({ threads: 1, ...options }) ?? Promise.reject(new Error('no learner')),
    services: trainServices,
    data: rows.slice(0, 16),
    replay: null,
    parameters: { learningRate: 3e-3, epochs: 6, batchSize: 8, dtype: 'f32', teacher: 'teacher', ...parameters },
    seed: 5,
    output: join(folder, name),
    work: null,
    resume: false,
    validation: null,
    ...change,
  };
}

/** Mean KL(teacher ‖ model) over the tokens of rows that no training saw. */
async function divergence(model: Model): Promise<number> {
  const ids = rows
    .slice(16)
    .map((row) => (row.kind === 'messages' ? student.tokenize(student.render(row.messages)) : []));
  const offsets = ids.reduce((list, tokens) => [...list, (list.at(-1) ?? 0) + tokens.length], [0]);
  const batch: TokenBatch = {
    tokens: Int32Array.from(ids.flat()),
    offsets: Int32Array.from(offsets),
    labelled: Uint8Array.from(ids.flat(), (_, index) => (offsets.includes(index) ? 0 : 1)),
  };
  const [own, taught] = await Promise.all(
    [model, teacher].map(async (one) => {
      const learner = await one.learner?.({ threads: 1, frozen: true });
      const found = await learner?.distributions(batch, null, { keep: false });
      await learner?.close();
      return found as Float32Array;
    }),
  );
  const tokens = batch.labelled.reduce((sum, value) => sum + value, 0);
  return (
    (taught as Float32Array).reduce((sum, log, index) => sum + Math.exp(log) * (log - (own?.[index] as number)), 0) /
    tokens
  );
}

describe('distillation', () => {
  it.each([
    ['forward-kl', {}],
    ['reverse-kl', { divergence: 'reverse-kl' }],
    ['jsd', { divergence: 'jsd', beta: 0.3, temperature: 2 }],
    ['top', { topTokens: 16 }],
  ])('brings the student nearer to the teacher, on rows that it did not see: %s', async (name, parameters) => {
    const one = job(name, parameters);
    const { losses, metrics } = await trainer.train(one, () => {});
    expect(losses).toHaveLength(12);
    expect(losses.at(-1)).toBeLessThan(0.6 * (losses[0] as number));
    expect(metrics['forward_kl']).toBeGreaterThan(0);
    const trained = await native.open({ id: name, path: one.output }, { threads: 1 });
    const [before, after] = [await divergence(student), await divergence(trained)];
    await trained.close();
    expect(after).toBeLessThan(0.75 * before);
  });

  it('needs a teacher, and plans as others do', async () => {
    expect(await trainer.plan(job('plan', {}))).toMatchObject({ steps: 12 });
    await expect(trainer.train(job('alone', {}, { openTeacher: null }), () => {})).rejects.toMatchObject({
      code: 'CUPEL_TRAIN_NO_TEACHER',
    });
  });

  it('refuses a teacher with another vocabulary, by the token', async () => {
    const path = join(folder, 'other');
    await cp(base, path, { recursive: true });
    const info = (id: string, one: string) => ({
      id,
      path: one,
      engine: null,
      role: '',
      description: '',
      training: null,
    });
    await expect(checkTeacherVocabulary(info('a', base), info('b', path))).resolves.toBeUndefined();
    const file = join(path, 'tokenizer.json');
    await writeFile(file, (await readFile(file, 'utf8')).replaceAll('<|im_end|>', '<|fin|>'));
    await expect(checkTeacherVocabulary(info('a', base), info('b', path))).rejects.toMatchObject({
      code: 'CUPEL_TRAIN_TEACHER_VOCABULARY',
      message: expect.stringContaining('<|im_end|>') as string,
    });
  });
});
