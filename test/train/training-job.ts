import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Learner, LearnerOptions, Recipe, TrainEvent, TrainingRow, TrainJob } from '../../src/contracts/index.ts';
import { sha256File } from '../../src/kit/index.ts';
import { trainServices } from '../../src/train/index.ts';
import { BigramLearner, byteModel } from './byte-model.ts';

const words = ['ship', 'refund it all', 'no', 'call back', 'reset', 'wait', 'escalate'];

export const answerRows: TrainingRow[] = words.map((content, index) => ({
  id: `r${index}`,
  kind: 'messages',
  messages: [
    { role: 'user', content: `ask ${index}` },
    { role: 'assistant', content },
  ],
}));
export const pairRows: TrainingRow[] = words.map((chosen, index) => ({
  id: `p${index}`,
  kind: 'preference',
  prompt: [{ role: 'user', content: `ask ${index}` }],
  chosen,
  rejected: `${[...chosen].reverse().join('')}!`,
}));
export const labelledRows: TrainingRow[] = words.map((answer, index) => ({
  id: `l${index}`,
  kind: 'labelled',
  prompt: [{ role: 'user', content: `ask ${index}` }],
  answer,
  desirable: index % 3 !== 1,
}));
export const replayRows: TrainingRow[] = ['the cat sat', 'on the mat', 'all day'].map((text, index) => ({
  id: `t${index}`,
  kind: 'text',
  text,
}));

export const baseRecipe: Recipe = {
  epochs: 3,
  batchSize: 3,
  microBatchTokens: 60,
  learningRate: 0.05,
  schedule: 'cosine',
  warmupSteps: 1,
  weightDecay: 0.01,
  maxGradNorm: 1,
  beta1: 0.9,
  beta2: 0.99,
  epsilon: 1e-8,
  order: 'shuffle',
  overlong: 'error',
  dtype: 'f32',
  maxSteps: null,
  maxTokens: null,
  tuning: { kind: 'full' },
  compute: 'f32',
  recompute: false,
  checkpoints: { everySteps: 1, keep: 2 },
};

/** A job over a bigram learner whose folders are below `folder`. */
export function trainingJob(
  folder: string,
  change: Partial<TrainJob> = {},
  open: (options: LearnerOptions) => Learner = (options) => new BigramLearner({ ...options, scale: 0.3 }),
): TrainJob {
  return {
    id: 'tiny',
    base: null,
    model: byteModel,
    openLearner: (options) => Promise.resolve(open(options)),
    openTeacher: null,
    services: trainServices,
    data: answerRows,
    replay: null,
    parameters: {},
    seed: 3,
    output: join(folder, 'out'),
    work: join(folder, 'work'),
    resume: false,
    validation: null,
    ...change,
  };
}

/** Aborts after a step, and keeps the events. */
export function stopAfter(step: number): {
  signal: AbortSignal;
  sink: (event: TrainEvent) => void;
  events: TrainEvent[];
} {
  const controller = new AbortController();
  const events: TrainEvent[] = [];
  const sink = (event: TrainEvent): void => {
    events.push(event);
    if (event.type === 'step' && event.step === step) controller.abort(new Error('stopped'));
  };
  return { signal: controller.signal, sink, events };
}

/** Weights by digest, and the record. */
export const outputBytes = async (output: string): Promise<[weights: string, record: string]> => [
  await sha256File(join(output, 'weights.bin')),
  await readFile(join(output, 'cupel_run.json'), 'utf8'),
];

export const readLog = async (work: string): Promise<{ type: string; step: number; loss?: number }[]> =>
  (await readFile(join(work, 'log.jsonl'), 'utf8'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { type: string; step: number; loss?: number });
