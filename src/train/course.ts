import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Learner, Recipe, TrainEvent, TrainResult } from '../contracts/index.ts';
import { isCupelError } from '../kit/index.ts';
import { Checkpoints } from './checkpoints.ts';
import { raiseFindings } from './checks/finding.ts';
import { probeAccumulation, probePacking } from './checks/probes.ts';
import { trainErrors } from './errors.ts';
import { openLogs } from './log/open-logs.ts';
import { flatParameters, type TrainingLog } from './log/training-log.ts';
import { type FinishedStep, type LoopProgress, trainLoop, walkOf } from './loop.ts';
import { referencesOf } from './references.ts';
import { codeVersion, type Run } from './run-record.ts';
import type { RunIdentity, RunState, ValidationState } from './run-state.ts';
import { saveSnapshot, writeResult } from './saved-weights.ts';
import { Validation } from './validation.ts';

type Sink = (event: TrainEvent) => void;

/** One run over an open learner. */
export class Course {
  readonly #run: Run;
  readonly #learner: Learner;
  readonly #teacher: Learner | null;
  readonly #sink: Sink;
  readonly #steps: number;
  readonly #checkpoints: Checkpoints | null;
  readonly #validation: Validation | null;
  #log: TrainingLog | null = null;
  #measured: ValidationState = { measured: 0, best: null, since: 0 };
  #clock = performance.now();

  constructor(run: Run, learner: Learner, teacher: Learner | null, identity: RunIdentity, work: string, sink: Sink) {
    const { job } = run;
    this.#run = run;
    this.#learner = learner;
    this.#teacher = teacher;
    this.#sink = sink;
    this.#steps = identity.steps;
    this.#checkpoints =
      job.work === null ? null : new Checkpoints(join(job.work, 'checkpoints'), identity, codeVersion());
    this.#validation =
      job.validation === null
        ? null
        : new Validation(
            job.validation,
            join(work, 'snapshots'),
            (folder) => saveSnapshot(run, learner, folder, sink),
            sink,
          );
  }

  async go(signal?: AbortSignal): Promise<TrainResult> {
    const { job, recipe, objective, prepared } = this.#run;
    const { references, from } = await this.#begin(signal);
    if (job.work !== null) {
      const description = { name: job.id, parameters: flatParameters({ seed: job.seed, ...recipe }) };
      const kept = { step: from?.step ?? 0, measured: this.#measured.measured };
      this.#log = await openLogs(job.work, job.logs ?? {}, description, kept, this.#sink);
    }
    let end: 'finished' | 'failed' | 'stopped' = 'failed';
    try {
      // What was interrupted between a step and its measurement.
      if (from !== null && this.#mustMeasure(from.step)) await this.#measure(from, signal);
      const stop = from !== null && (this.#validation?.isExhausted(this.#measured) ?? false);
      this.#clock = performance.now();
      const result = await trainLoop(
        {
          learner: this.#learner,
          objective,
          recipe: stop ? { ...recipe, maxSteps: from.step } : recipe,
          ...prepared,
          seed: job.seed,
          references,
          teacher:
            this.#teacher === null ? null : { learner: this.#teacher, vocabularySize: this.#run.model.vocabularySize },
          from,
          afterStep: (progress, step) => this.#afterStep(progress, step, signal),
          lastGood: () => this.#checkpoints?.last ?? null,
        },
        this.#sink,
        signal,
      );
      const finished = await this.#finish(result, signal);
      end = 'finished';
      return finished;
    } catch (error) {
      if (signal?.aborted === true) end = 'stopped';
      throw error;
    } finally {
      await this.#log?.close(end);
    }
  }

  /** Reference log-probabilities first: they are those of the base, which the learner is until a state is loaded. */
  async #begin(signal?: AbortSignal) {
    const { job, model, recipe, objective, prepared } = this.#run;
    const { order } = walkOf({ ...prepared, recipe, seed: job.seed });
    signal?.throwIfAborted();
    await this.#probe();
    const found = job.resume
      ? ((await this.#checkpoints?.latest(this.#sink, (state) => this.#missing(state))) ?? null)
      : null;
    const references =
      objective.head === 'distribution'
        ? null
        : await referencesOf(
            {
              learner: this.#learner,
              objective,
              examples: prepared.examples,
              order,
              maxTokens: recipe.microBatchTokens,
              contextLength: model.contextLength,
              adapter: recipe.tuning.kind !== 'full',
              folder: job.work === null ? null : join(job.work, 'references'),
              identity: [model.digest, model.engine, learnerIdentity(recipe)],
              signal,
            },
            this.#sink,
          );
    if (found === null) {
      await this.#checkpoints?.clear();
      await this.#validation?.clear();
      return { references, from: null };
    }
    const { state, load } = found;
    await this.#learner.loadState(load);
    this.#measured = state.validation;
    return { references, from: state.progress };
  }

  /** Faults that show only where something is computed, before anything is trained. */
  async #probe(): Promise<void> {
    const { objective, prepared } = this.#run;
    if (objective.head === 'reward') return;
    const findings = await probePacking(this.#learner, prepared.examples);
    if (objective.head !== 'distribution') findings.push(...probeAccumulation(objective, prepared.examples));
    raiseFindings(findings, this.#sink);
  }

  /** What a checkpoint needs beside itself. */
  #missing({ validation: { best } }: RunState): string | null {
    if (best === null || this.#validation === null || existsSync(this.#validation.folderOf(best.step))) return null;
    return `the weights of step ${best.step}, which measured best, are gone`;
  }

  async #afterStep(progress: LoopProgress, step: FinishedStep, signal?: AbortSignal): Promise<boolean> {
    const now = performance.now();
    const tokensPerSecond = Math.round(step.tokens / Math.max(1e-6, (now - this.#clock) / 1000));
    this.#clock = now;
    await this.#log?.write({ type: 'step', ...step, tokensPerSecond, time: new Date().toISOString() });
    try {
      if (signal?.aborted !== true && this.#mustMeasure(step.step)) await this.#measure(progress, signal);
    } finally {
      // A measurement that was interrupted is made when the run goes on.
      if (signal?.aborted === true || this.#checkpointIsDue(progress, step)) await this.#checkpoint(progress);
    }
    signal?.throwIfAborted();
    this.#clock = performance.now();
    return this.#validation?.isExhausted(this.#measured) ?? false;
  }

  #mustMeasure(step: number): boolean {
    return this.#validation !== null && this.#measured.measured < step && this.#validation.isDue(step, this.#steps);
  }

  async #measure({ step }: LoopProgress, signal?: AbortSignal): Promise<void> {
    const validation = this.#validation as Validation;
    const { state, value, wins } = await validation.measure(step, this.#measured, signal);
    this.#measured = state;
    const time = new Date().toISOString();
    await this.#log?.write({ type: 'validation', step, metric: validation.metric, value, best: wins, time });
    await this.#dropSnapshots();
  }

  #checkpointIsDue(progress: LoopProgress, step: FinishedStep): boolean {
    const cadence = this.#run.recipe.checkpoints;
    if (cadence === null || this.#checkpoints === null) return false;
    const { everySteps, everyTokens } = cadence;
    if (everySteps !== undefined && progress.step % everySteps === 0) return true;
    const before = progress.trainedTokens - step.tokens;
    return (
      everyTokens !== undefined && Math.floor(progress.trainedTokens / everyTokens) > Math.floor(before / everyTokens)
    );
  }

  async #checkpoint(progress: LoopProgress): Promise<void> {
    if (this.#checkpoints === null) return;
    const keep = this.#run.recipe.checkpoints?.keep ?? 1;
    const folder = await this.#checkpoints.save(this.#learner, { progress, validation: this.#measured }, keep);
    this.#sink({ type: 'checkpoint', step: progress.step, folder });
    await this.#dropSnapshots();
  }

  /** Weights that neither this run nor a checkpoint on disk calls the best. */
  async #dropSnapshots(): Promise<void> {
    if (this.#validation === null) return;
    const kept = new Set(await this.#checkpoints?.bestSteps());
    if (this.#measured.best !== null) kept.add(this.#measured.best.step);
    await this.#validation.keep(kept);
  }

  async #finish(result: LoopProgress, signal?: AbortSignal): Promise<TrainResult> {
    const { best } = this.#measured;
    const metrics = await this.#writeResult(result, signal);
    // The result stands: what is left over is no reason to say that it does not.
    await this.#validation?.clear().catch(() => {});
    const { step: steps, trainedTokens, losses } = result;
    return { steps, trainedTokens, metrics, losses, ...(best !== null && { bestStep: best.step }) };
  }

  async #writeResult(result: LoopProgress, signal?: AbortSignal): Promise<TrainResult['metrics']> {
    const validation = this.#validation;
    const { best } = this.#measured;
    const chosen =
      best === null || validation === null
        ? null
        : { ...best, folder: validation.folderOf(best.step), metric: validation.metric };
    try {
      return await writeResult(this.#run, this.#learner, result, chosen, this.#sink, signal);
    } catch (cause) {
      // Nothing but the saving is to be done again, if the disk has room for a checkpoint at least.
      await this.#checkpoint(result).catch(() => {});
      if (isCupelError(cause) || signal?.aborted === true) throw cause;
      const last = this.#checkpoints?.last ?? null;
      throw trainErrors.CUPEL_TRAIN_CHECKPOINT_FAILED({
        message: `the result: ${(cause as Error).message}; ${last === null ? 'there is no checkpoint before it' : `last whole one: ${last}`}`,
        where: this.#run.job.output,
        cause,
      });
    }
  }
}

function learnerIdentity({ tuning, compute }: Recipe): unknown {
  return { compute, base: tuning.kind === 'full' ? null : (tuning.base ?? tuning.kind) };
}
