import { cp, mkdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Learner, Recipe, TrainEvent, TrainResult } from '../contracts/index.ts';
import { writeFileAtomic } from '../kit/index.ts';
import type { LoopProgress } from './loop.ts';
import { mergeDifference } from './merge-probe.ts';
import { recordOf, type Run } from './run-record.ts';
import type { Best } from './run-state.ts';
import { stopRate } from './stop-rate.ts';
import { warn } from './warn.ts';

type Sink = (event: TrainEvent) => void;

/** Weights that were measured: measured is the model; where an adapter is to be saved, it lies beside. */
export async function saveSnapshot(run: Run, learner: Learner, folder: string, sink: Sink): Promise<number | null> {
  const { dtype, form } = saveOptionsOf(run.recipe);
  await learner.save(join(folder, 'model'), { dtype });
  if (form === 'adapter') await learner.save(join(folder, 'adapter'), { dtype, form });
  return differenceOf(run, learner, join(folder, 'model'), sink);
}

/**
 * Writes `job.output` with its record: beside it first, so that it has its name when it is whole, never before.
 * @param best weights that measured best, with the folder of their snapshot and the metric; null: those of the learner
 * @returns the metrics that stand in the record
 */
export async function writeResult(
  run: Run,
  learner: Learner,
  result: LoopProgress,
  best: (Best & { readonly folder: string; readonly metric: string }) | null,
  sink: Sink,
  signal?: AbortSignal,
): Promise<TrainResult['metrics']> {
  const { job } = run;
  const partial = `${job.output}.partial`;
  try {
    await rm(partial, { recursive: true, force: true });
    await mkdir(dirname(job.output), { recursive: true });
    const difference = best === null ? await saveLast(run, learner, partial, sink) : await takeBest(run, best, partial);
    // Where nothing is kept to go on from, a training that has ended is not given up for the sake of a measurement.
    const rate = await stopRateOf(run, partial, sink, job.work === null ? undefined : signal);
    const metrics = {
      ...result.metrics,
      ...(difference !== null && { merge_difference: difference }),
      ...(rate !== null && { stop_rate: rate }),
    };
    const record = recordOf(run, { ...result, metrics }, best);
    await writeFileAtomic(join(partial, 'cupel_run.json'), `${JSON.stringify(record, null, 2)}\n`);
    await rename(partial, job.output);
    return metrics;
  } catch (error) {
    await rm(partial, { recursive: true, force: true }).catch(() => {});
    throw error;
  }
}

async function takeBest(run: Run, best: Best & { readonly folder: string }, folder: string): Promise<number | null> {
  await cp(join(best.folder, saveOptionsOf(run.recipe).form), folder, { recursive: true });
  return best.mergeDifference;
}

/** @returns what the saved model differs from its adapters */
async function saveLast(run: Run, learner: Learner, folder: string, sink: Sink): Promise<number | null> {
  const { dtype, form } = saveOptionsOf(run.recipe);
  await learner.save(folder, run.recipe.tuning.kind === 'full' ? { dtype } : { dtype, form });
  return form === 'model' ? differenceOf(run, learner, folder, sink) : null;
}

async function differenceOf(run: Run, learner: Learner, folder: string, sink: Sink): Promise<number | null> {
  const { job, recipe, objective, prepared } = run;
  if (recipe.tuning.kind === 'full' || job.openSaved === undefined || objective.head === 'reward') return null;
  return mergeDifference(learner, folder, job.openSaved, prepared.examples, recipe, sink);
}

async function stopRateOf(run: Run, folder: string, sink: Sink, signal?: AbortSignal): Promise<number | null> {
  const { job, model, objective, prepared } = run;
  const { openSavedModel } = job;
  if (openSavedModel === undefined || objective.head === 'reward') return null;
  try {
    return await stopRate(() => openSavedModel(folder), model, prepared.examples, sink, signal);
  } catch (error) {
    signal?.throwIfAborted();
    warn(sink, 'CUPEL_TRAIN_NOT_MEASURED', `whether answers end: ${(error as Error).message}`);
    return null;
  }
}

/** How weights are written while training and at its end. */
function saveOptionsOf(recipe: Recipe): { dtype: 'f32' | 'bf16'; form: 'model' | 'adapter' } {
  const { tuning, dtype } = recipe;
  return { dtype, form: tuning.kind === 'full' ? 'model' : (tuning.save ?? 'model') };
}
