import { appendFileSync, existsSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { TrainEvent, TrainJob, TrainPlan, TrainResult, TrainServices } from '../../src/contracts/index.ts';
import { defineTrainer, parseJsonl, writeFileAtomic } from '../../src/kit/index.ts';
import { trainerErrors } from '../lib/errors.ts';
import { runChild } from './child.ts';
import {
  childEnvironment,
  differences,
  type Environment,
  findEnvironment,
  makeEnvironment,
  pins,
  trainCommand,
} from './environment.ts';
import { trlErrors } from './errors.ts';
import type { ChildEvent } from './events.ts';
import { type ChildTask, defaultTargets, jobFolder, taskDigest, writeJobFolder } from './job-folder.ts';
import { dependsOnDivision } from './methods.ts';
import { readTrlJob, type TrlJob, trlOptions } from './parameters.ts';
import { emptyPartial, parametersOf, recordOf, takeResult } from './result.ts';
import { checkSteps, type ChildRow, childRows } from './rows.ts';
import { isTested, selfTest } from './self-test.ts';
import { codedWrites, lockWork, type WorkLock } from './work.ts';

const version = '1.0.0';

/**
 * Fine-tuning by TRL 1.16 (https://github.com/huggingface/trl) in a child process, for machines with GPUs, on the same
 * tokens, in the same steps and at the same learning rates as the native trainers. What TRL can not be told, or would
 * ignore, is refused.
 */
export default defineTrainer({
  summary: 'TRL in a child process: SFT, DPO, KTO, ORPO, CPO, SimPO by torchrun, FSDP or DeepSpeed',
  version,
  options: trlOptions,
  needs: 'model',
  async plan(job) {
    const trl = readTrlJob(job);
    return planOf(trl, await prepare(job, trl, () => {}));
  },

  async train(job, sink, signal) {
    const trl = readTrlJob(job);
    const environment = await readyEnvironment(job.environments);
    return codedWrites(job.output, async () => {
      const lock = await lockWork(job);
      try {
        if (existsSync(job.output)) {
          throw trainerErrors.CUPEL_TRAINER_OUTPUT_EXISTS({ message: `${job.output} exists`, where: job.output });
        }
        const prepared = await prepare(job, trl, sink);
        warnOfDivision(trl, prepared.steps, sink);
        return await runJob(job, trl, prepared, environment, lock, sink, signal);
      } finally {
        await lock.release();
      }
    });
  },

  environment: {
    async state(environments) {
      const found = await findEnvironment(environments);
      if (found === null) return { state: 'absent', detail: 'not set up; `cupel doctor --setup trl` makes it' };
      const names = `trl ${found.installed['trl']}, torch ${found.installed['torch']}, Python ${found.pythonVersion}`;
      if (await isTested(found, version)) return { state: 'ready', detail: `${names}; the self-test passed` };
      return { state: 'untested', detail: `${names}; its self-test has not passed` };
    },
    async setUp(environments, options) {
      const made = await makeEnvironment(environments, options);
      options.note('self-test: four runs of the reference jobs');
      await selfTest(made, version, options.note, options.signal);
      return this.state(environments);
    },
  },
});

interface Prepared {
  readonly base: NonNullable<TrainJob['base']>;
  readonly rows: readonly ChildRow[];
  readonly steps: ReturnType<TrainServices['steps']>;
  readonly padToken: number;
  readonly vocabularySize: number;
}

async function prepare(job: TrainJob, trl: TrlJob, sink: (event: TrainEvent) => void): Promise<Prepared> {
  if (job.services === null || job.model === null || job.base === null) {
    throw trainerErrors.CUPEL_TRAINER_NO_SERVICES({
      message: `job ${job.id} has no open base or no training services`,
    });
  }
  const shape = { name: `trl-${trl.method}`, sequences: trl.shape.sequences };
  const { rows } = await job.services.prepare(job, shape, trl.recipe, sink);
  const steps = job.services.steps(trl.recipe, rows.length, job.seed);
  checkSteps(
    steps.map((step) => step.rows),
    trl.processes,
    trl.accumulation,
  );
  return {
    base: job.base,
    rows: childRows(rows, trl.shape.sequences),
    steps,
    padToken: job.model.endOfTurn,
    vocabularySize: job.model.vocabularySize,
  };
}

/**
 * Memory of one process by rule: 4 bytes a weight, 12 a trained one for gradient and moments, 4 a weight of a reference
 * copy, shared out where they are sharded; logits of a micro-batch three times over, and 64 √parameters bytes a token
 * of activations. TRL's time can not be told from here.
 */
async function planOf(trl: TrlJob, { base, rows, steps, vocabularySize }: Prepared): Promise<TrainPlan> {
  const { tuning } = trl.recipe;
  const { all, adapted } = await parametersOf(base.path);
  const trainable = tuning.kind === 'full' ? all : adapted(tuning.rank, tuning.targets ?? defaultTargets);
  const tokensOf = (index: number): number =>
    rows[index]?.sequences.reduce((sum, { tokens }) => sum + tokens.length, 0) ?? 0;
  const labelledOf = (index: number): number =>
    rows[index]?.sequences.reduce((sum, { labels }) => sum + labels.reduce((count, label) => count + label, 0), 0) ?? 0;
  const each = (count: (index: number) => number): number =>
    steps.reduce((sum, step) => sum + step.rows.reduce((part, index) => part + count(index), 0), 0);
  const longest = rows.reduce(
    (most, row) => row.sequences.reduce((longer, { tokens }) => Math.max(longer, tokens.length), most),
    0,
  );
  const largest = steps.reduce((most, step) => Math.max(most, step.rows.length), 0);
  const sequences = Math.ceil(largest / (trl.processes * trl.accumulation)) * (rows[0]?.sequences.length ?? 1);
  const copies = trl.shape.reference && tuning.kind === 'full' ? 2 : 1;
  const sharded = trl.distributed === 'fsdp' || trl.distributed === 'deepspeed-zero3' ? trl.processes : 1;
  const held = (4 * all * copies + 12 * trainable) / sharded;
  return {
    steps: steps.length,
    tokens: each(tokensOf),
    labelledTokens: each(labelledOf),
    memoryBytes: Math.ceil(held + sequences * longest * (12 * vocabularySize + 64 * Math.sqrt(all))),
    seconds: null,
    parameters: all,
    trainableParameters: trainable,
  };
}

async function readyEnvironment(environments: string | undefined): Promise<Environment> {
  const found = environments === undefined ? null : await findEnvironment(environments);
  const message =
    found === null
      ? 'there is no environment with the pinned versions'
      : (await isTested(found, version))
        ? null
        : 'the environment has not passed the self-test as it is now';
  if (found !== null && message === null) return found;
  throw trlErrors.CUPEL_TRL_NO_ENVIRONMENT({ message: message ?? '', where: environments ?? 'environments' });
}

function warnOfDivision(trl: TrlJob, steps: Prepared['steps'], sink: (event: TrainEvent) => void): void {
  const parts = trl.processes * trl.accumulation;
  if (parts === 1) return;
  const kl =
    trl.method === 'kto' && (trl.accumulation > 1 || steps.some(({ rows }) => rows.length % trl.processes !== 0));
  const reason = kl
    ? 'KTO estimates the divergence from the base over each micro-batch'
    : dependsOnDivision(trl.method, trl.given);
  if (reason === null) return;
  sink({
    type: 'warning',
    code: 'CUPEL_TRL_DIVIDED',
    message: `${reason}; steps are divided into ${parts} parts, so that the curve differs from that of one process`,
  });
}

async function runJob(
  job: TrainJob,
  trl: TrlJob,
  prepared: Prepared,
  environment: Environment,
  lock: WorkLock,
  sink: (event: TrainEvent) => void,
  signal?: AbortSignal,
): Promise<TrainResult> {
  const { base, rows, steps, padToken } = prepared;
  const folder = job.work === null ? `${job.output}.trl` : join(job.work, 'trl');
  const wanted = await pins();
  const partial = await emptyPartial(job.output);
  const task: ChildTask = {
    trl,
    base: base.path,
    parent: job.model?.digest ?? 'none',
    rows,
    steps,
    seed: job.seed,
    padToken,
    output: partial,
    packages: Object.keys(wanted),
  };
  const resume = await mayResume(job, folder, task);
  const files = await writeJobFolder(folder, task, resume);
  const losses = await earlierLosses(folder, resume);
  let metrics: Readonly<Record<string, number>> = {};
  let last: number | null = null;
  const tokensOf = (step: number): number =>
    steps[step - 1]?.rows.reduce(
      (sum, row) => sum + (rows[row]?.sequences.reduce((part, { tokens }) => part + tokens.length, 0) ?? 0),
      0,
    ) ?? 0;
  const onEvent = (event: ChildEvent): void => {
    if (event.event === 'hello') checkHello(event, trl, wanted, files.log);
    if (event.event === 'checkpoint') sink({ type: 'checkpoint', step: event.step, folder: event.folder });
    if (event.event !== 'step') return;
    checkStep(event, last, steps.length, files.events);
    last = event.step;
    losses[event.step - 1] = event.loss;
    appendFileSync(join(folder, 'losses.jsonl'), `${JSON.stringify({ step: event.step, loss: event.loss })}\n`);
    const { grad_norm: gradientNorm, ...others } = event.metrics;
    metrics = {
      ...others,
      loss: event.loss,
      ...(gradientNorm === undefined ? {} : { gradient_norm: gradientNorm }),
    };
    sink({
      type: 'step',
      step: event.step,
      steps: event.steps,
      loss: event.loss,
      metrics,
      tokens: tokensOf(event.step),
    });
  };
  const done = await runChild(
    {
      command: trainCommand(environment.python, trl.processes, files.job),
      environment: childEnvironment(trl.processes, join(folder, 'cache')),
      eventsFile: files.events,
      stopFile: files.stop,
      logFile: files.log,
      onStart: lock.claimForChild,
    },
    onEvent,
    signal,
  );
  if (done.steps !== steps.length) {
    throw trlErrors.CUPEL_TRL_RESULT({
      message: `${done.steps} of ${steps.length} steps were taken`,
      where: files.log,
    });
  }
  const trainedTokens = steps.reduce((sum, _, index) => sum + tokensOf(index + 1), 0);
  const figures = { steps: done.steps, trainedTokens, metrics };
  await takeResult({ ...job, base }, trl, rows, done.probe, { ...recordOf(job, trl, version), ...figures }, partial);
  if (job.work === null) await rm(folder, { recursive: true, force: true });
  return { ...figures, losses };
}

/**
 * Losses of the steps before the one that a run goes on from; a step that was taken again counts as it went last. A
 * child that outlived this program reported to events.jsonl alone.
 */
async function earlierLosses(folder: string, resume: boolean): Promise<number[]> {
  const losses: number[] = [];
  const file = join(folder, 'losses.jsonl');
  if (!resume) {
    await rm(file, { force: true });
    return losses;
  }
  for (const path of [file, jobFolder(folder).events]) {
    if (!existsSync(path)) continue;
    // A line that was cut short is of a step that is taken again.
    for (const { value } of parseJsonl((await readFile(path, 'utf8')).replace(/[^\n]*$/, ''), path)) {
      const { step, loss } = value as { step?: unknown; loss?: unknown };
      if (typeof step === 'number' && typeof loss === 'number') losses[step - 1] = loss;
    }
  }
  await writeFileAtomic(file, losses.map((loss, index) => `${JSON.stringify({ step: index + 1, loss })}\n`).join(''));
  return losses;
}

/** @throws CUPEL_TRL_EVENTS for a step that does not follow the one before, or is not of this job */
function checkStep(
  { step, steps }: Extract<ChildEvent, { event: 'step' }>,
  last: number | null,
  expected: number,
  where: string,
): void {
  if (steps === expected && step >= 1 && step <= expected && (last === null || step === last + 1)) return;
  throw trlErrors.CUPEL_TRL_EVENTS({
    message: `step ${step} of ${steps} after ${last === null ? 'the start' : `step ${last}`}; the job has ${expected} steps`,
    where,
  });
}

/** @throws CUPEL_TRL_RESUME where a run of another job lies in the folder */
async function mayResume(job: TrainJob, folder: string, task: ChildTask): Promise<boolean> {
  const files = jobFolder(folder);
  if (!job.resume || job.work === null || !existsSync(files.checkpoints)) return false;
  const before = (await readFile(files.digestFile, 'utf8').catch(() => '')).trim();
  if (before === taskDigest(task)) return true;
  throw trlErrors.CUPEL_TRL_RESUME({
    message: 'base, rows, steps, settings or seed are not those of the run',
    where: folder,
  });
}

function checkHello(
  hello: Extract<ChildEvent, { event: 'hello' }>,
  trl: TrlJob,
  wanted: Readonly<Record<string, string>>,
  where: string,
): void {
  if (hello.worldSize !== trl.processes) {
    throw trlErrors.CUPEL_TRL_WORLD_SIZE({
      message: `${hello.worldSize} processes run, ${trl.processes} were asked for`,
      where,
    });
  }
  const different = differences(wanted, hello.versions);
  if (different.length > 0) throw trlErrors.CUPEL_TRL_VERSIONS({ message: different.join(', '), where });
}
