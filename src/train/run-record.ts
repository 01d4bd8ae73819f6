import { createHash, type Hash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type {
  DistillationObjective,
  Learner,
  Model,
  Objective,
  Recipe,
  TrainingRecord,
  TrainingRow,
  TrainJob,
} from '../contracts/index.ts';
import { canonicalJson, digestOf, packageRoot, sha256 } from '../kit/index.ts';
import type { RunIdentity } from './run-state.ts';
import { type LoopProgress, walkOf } from './loop.ts';
import { packSequences } from './packing.ts';
import type { Prepared } from './plan.ts';
import { templateDigest } from './template-digest.ts';

/** What is to be trained, with everything that it is trained on. */
export interface Run {
  readonly job: TrainJob;
  readonly model: Model;
  readonly objective: Objective | DistillationObjective;
  readonly recipe: Recipe;
  readonly prepared: Prepared;
}

/** What a run that goes on must be the same in. */
export async function identityOf(run: Run, teacher: Learner | null): Promise<RunIdentity> {
  const { job, model, objective, recipe, prepared } = run;
  return {
    steps: walkOf({ ...prepared, recipe, seed: job.seed }).order.length,
    base: digestOf([model.digest, model.engine, templateDigest(model), await printOf(teacher, prepared)]),
    data: dataDigest(job),
    recipe: digestOf([objective.name, objective.version, job.seed, recipeDigest(run), measuredBy(job)]),
  };
}

/** What chooses the best weights, and when to stop: values of another metric can not be compared with those before. */
function measuredBy({ validation }: TrainJob): unknown {
  if (validation === null) return null;
  const { metric, higherIsBetter, everySteps, patience } = validation;
  return { metric, higherIsBetter, everySteps, patience };
}

/** A teacher is known by what it says of the first example. */
async function printOf(teacher: Learner | null, { examples }: Prepared): Promise<string | null> {
  if (teacher === null) return null;
  const batch = packSequences(examples[0]?.sequences ?? []);
  const { buffer, byteOffset, byteLength } = await teacher.logProbabilities(batch, { keep: false });
  return sha256(new Uint8Array(buffer, byteOffset, byteLength));
}

/** `digestOf({ data, replay })`, row by row: the text of a million rows is longer than a string can be. */
function dataDigest({ data, replay }: TrainJob): string {
  const hash = createHash('sha256').update('{"data":');
  addRows(hash, data);
  hash.update(',"replay":');
  addRows(hash, replay?.rows ?? []);
  return `sha256:${hash.update('}').digest('hex')}`;
}

function rowsDigest(rows: readonly TrainingRow[]): string {
  const hash = createHash('sha256');
  addRows(hash, rows);
  return `sha256:${hash.digest('hex')}`;
}

function addRows(hash: Hash, rows: readonly TrainingRow[]): void {
  hash.update('[');
  for (const [index, row] of rows.entries()) hash.update(`${index === 0 ? '' : ','}${canonicalJson(row)}`);
  hash.update(']');
}

/** Without what never changes a result. */
function recipeDigest({ job, recipe }: Run): string {
  const without = (values: object) =>
    Object.fromEntries(Object.entries(values).filter(([name]) => name !== 'checkpoints' && name !== 'recompute'));
  return digestOf({
    recipe: without(recipe),
    parameters: without(job.parameters),
    replayPerStep: job.replay?.perStep ?? 0,
  });
}

/**
 * `cupel_run.json`. No clock and no machine, and nothing of interruptions: a run that went on leaves the same bytes.
 * @param chosen by validation; null: the weights of the last step
 */
export function recordOf(
  run: Run,
  { step: steps, trainedTokens, metrics }: LoopProgress,
  chosen: { readonly step: number; readonly metric: string; readonly value: number } | null,
): TrainingRecord {
  const { job, model, objective, recipe } = run;
  return {
    version: 1,
    trainer: `${objective.name}@${objective.version}`,
    parent: model.digest,
    recipeDigest: recipeDigest(run),
    dataDigest: dataDigest(job),
    templateDigest: templateDigest(model),
    seed: job.seed,
    steps,
    trainedTokens,
    metrics,
    data: {
      rows: job.data.length,
      digest: rowsDigest(job.data),
      replay: job.replay === null ? null : rowsDigest(job.replay.rows),
    },
    tuning: { ...recipe.tuning },
    compute: recipe.compute,
    codeVersion: codeVersion(),
    ...(chosen !== null && {
      bestStep: chosen.step,
      validation: { metric: chosen.metric, value: chosen.value },
    }),
  };
}

export function codeVersion(): string {
  return (JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string }).version;
}
