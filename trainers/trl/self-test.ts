import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Recipe } from '../../src/contracts/index.ts';
import { digestOf, openTensors, packageRoot, readJson, writeFileAtomic } from '../../src/kit/index.ts';
import { runChild } from './child.ts';
import { childEnvironment, type Environment, environmentDigest, pins, trainCommand } from './environment.ts';
import { trlErrors } from './errors.ts';
import { type ChildTask, writeJobFolder } from './job-folder.ts';
import type { ChildRow } from './rows.ts';

interface Reference {
  readonly sft_tokenized: readonly { readonly input_ids: readonly number[]; readonly labels: readonly number[] }[];
  readonly dpo_tokenized: readonly {
    readonly prompt_ids: readonly number[];
    readonly chosen_ids: readonly number[];
    readonly rejected_ids: readonly number[];
  }[];
  readonly sft: { readonly log: readonly LogLine[] };
  readonly dpo: { readonly log: readonly LogLine[] };
}

interface LogLine {
  readonly loss?: number;
  readonly grad_norm?: number;
  readonly learning_rate?: number;
}

/** One run of the self-test, and how far it was from the reference at worst. */
interface SelfTestRun {
  readonly method: string;
  readonly processes: number;
  readonly losses: readonly number[];
  /** Largest relative error of a loss, and of a gradient norm. */
  readonly lossError: number;
  readonly gradNormError: number;
  /** Share of the final weights within 2e-4 of the reference. */
  readonly weightsWithin: number;
}

interface Marker {
  readonly version: 1;
  readonly environment: string;
  readonly runs: readonly SelfTestRun[];
  readonly digest: string;
}

/** Tolerances of fixtures/reference/e2e. */
const tolerance = { loss: 1e-4, gradNorm: 1e-3, weights: 2e-4, weightsShare: 0.999 };

/** Whether the self-test passed for this environment, this plugin and this script as they are now. */
export async function isTested(environment: Environment, pluginVersion: string): Promise<boolean> {
  const file = join(environment.folder, 'self-test.json');
  if (!existsSync(file)) return false;
  const { digest, ...body } = await readJson<Marker>(file);
  return digest === digestOf(body) && body.environment === (await environmentDigest(environment, pluginVersion));
}

/**
 * Trains the reference jobs, SFT and DPO, with one process and with two, and holds losses, gradient norms and final
 * weights against what TRL gave when the reference was made. Leaves a marker where all of it agrees.
 * @throws CUPEL_TRL_SELF_TEST naming the first figure that differs
 */
export async function selfTest(
  environment: Environment,
  pluginVersion: string,
  note: (line: string) => void,
  signal?: AbortSignal,
): Promise<readonly SelfTestRun[]> {
  const folder = join(packageRoot(), 'fixtures', 'reference', 'e2e');
  const reference = await readJson<Reference>(join(folder, 'expected.json'));
  const runs: SelfTestRun[] = [];
  for (const method of ['sft', 'dpo'] as const) {
    for (const processes of [1, 2]) {
      const run = await selfTestRun(environment, folder, reference, method, processes, signal);
      note(
        `${method} with ${processes} process${processes === 1 ? '' : 'es'}: loss within ${run.lossError.toExponential(1)}, ` +
          `gradient norm within ${run.gradNormError.toExponential(1)} of the reference, ` +
          `${(100 * run.weightsWithin).toFixed(2)} % of the weights within ${tolerance.weights}`,
      );
      check(run);
      runs.push(run);
    }
  }
  const body = { version: 1 as const, environment: await environmentDigest(environment, pluginVersion), runs };
  const marker: Marker = { ...body, digest: digestOf(body) };
  await writeFileAtomic(join(environment.folder, 'self-test.json'), `${JSON.stringify(marker, null, 2)}\n`);
  return runs;
}

async function selfTestRun(
  environment: Environment,
  folder: string,
  reference: Reference,
  method: 'sft' | 'dpo',
  processes: number,
  signal?: AbortSignal,
): Promise<SelfTestRun> {
  const log = reference[method].log.filter((line) => line.loss !== undefined);
  const work = await mkdtemp(join(tmpdir(), 'cupel-trl-'));
  try {
    const output = join(work, 'output');
    const task: ChildTask = {
      trl: {
        method,
        recipe: referenceRecipe,
        processes,
        accumulation: 1,
        device: 'cpu',
        distributed: processes === 1 ? 'none' : 'ddp',
        options: {},
      },
      base: folder,
      parent: 'reference',
      rows: method === 'sft' ? sftRows(reference) : dpoRows(reference),
      steps: log.map((line, step) => ({
        rows: [0, 1, 2, 3].map((index) => 4 * step + index),
        learningRate: line.learning_rate ?? 0,
      })),
      seed: 1,
      padToken: 2,
      output,
      packages: Object.keys(await pins()),
    };
    const files = await writeJobFolder(join(work, 'job'), task, false);
    const losses: number[] = [];
    const gradNorms: number[] = [];
    await runChild(
      {
        command: trainCommand(environment.python, processes, files.job),
        environment: childEnvironment(processes, join(work, 'cache'), 1),
        eventsFile: files.events,
        stopFile: files.stop,
        logFile: files.log,
      },
      (event) => {
        if (event.event !== 'step') return;
        losses.push(event.loss);
        gradNorms.push(event.metrics['grad_norm'] ?? Number.NaN);
      },
      signal,
    );
    return {
      method,
      processes,
      losses,
      lossError: worst(
        losses,
        log.map((line) => line.loss ?? Number.NaN),
      ),
      gradNormError: worst(
        gradNorms,
        log.map((line) => line.grad_norm ?? Number.NaN),
      ),
      weightsWithin: await shareWithin(output, join(folder, `after_${method}5.safetensors`)),
    };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

function check(run: SelfTestRun): void {
  const { lossError, gradNormError, weightsWithin } = run;
  const wrong = !(lossError <= tolerance.loss)
    ? `a loss is off by ${lossError} (relative; at most ${tolerance.loss})`
    : !(gradNormError <= tolerance.gradNorm)
      ? `a gradient norm is off by ${gradNormError} (relative; at most ${tolerance.gradNorm})`
      : !(weightsWithin >= tolerance.weightsShare)
        ? `only ${weightsWithin} of the weights are within ${tolerance.weights}`
        : null;
  if (wrong === null) return;
  throw trlErrors.CUPEL_TRL_SELF_TEST({ message: `${run.method} with ${run.processes} processes: ${wrong}` });
}

/** Largest relative error; NaN, which passes no comparison, where a step is missing. */
function worst(found: readonly number[], expected: readonly number[]): number {
  if (found.length !== expected.length) return Number.NaN;
  return Math.max(...expected.map((value, index) => Math.abs((found[index] ?? Number.NaN) - value) / Math.abs(value)));
}

async function shareWithin(folder: string, file: string): Promise<number> {
  const [found, expected] = [await openTensors(folder), await openTensors(file)];
  try {
    let within = 0;
    let all = 0;
    for (const name of expected.entries.keys()) {
      const wanted = (await expected.read(name)).data;
      const values = found.entries.has(name) ? (await found.read(name)).data : new Float32Array();
      all += wanted.length;
      wanted.forEach((value, index) => {
        if (Math.abs((values[index] ?? Number.NaN) - value) <= tolerance.weights) within += 1;
      });
    }
    return within / all;
  } finally {
    await found.close();
    await expected.close();
  }
}

function sftRows({ sft_tokenized }: Reference): readonly ChildRow[] {
  return sft_tokenized.map(({ input_ids, labels }, index) => ({
    id: String(index),
    sequences: [
      {
        tokens: input_ids,
        labels: labels.map((label) => (label === -100 ? 0 : 1)),
        promptLength: labels.findIndex((label) => label !== -100),
      },
    ],
  }));
}

function dpoRows({ dpo_tokenized }: Reference): readonly ChildRow[] {
  return dpo_tokenized.map(({ prompt_ids, chosen_ids, rejected_ids }, index) => ({
    id: String(index),
    sequences: [chosen_ids, rejected_ids].map((answer) => ({
      tokens: [...prompt_ids, ...answer],
      labels: [...prompt_ids.map(() => 0), ...answer.map(() => 1)],
      promptLength: prompt_ids.length,
    })),
  }));
}

const referenceRecipe: Recipe = {
  epochs: 1,
  maxSteps: null,
  batchSize: 4,
  microBatchTokens: Number.MAX_SAFE_INTEGER,
  learningRate: 2e-3,
  schedule: 'cosine',
  warmupSteps: 1,
  weightDecay: 0.01,
  maxGradNorm: 1,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  order: 'file',
  maxTokens: null,
  overlong: 'error',
  dtype: 'f32',
  tuning: { kind: 'full' },
  compute: 'f32',
  recompute: false,
  checkpoints: null,
};
