import { mkdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { TrainingRecord, TrainJob } from '../../src/contracts/index.ts';
import { digestOf, type JsonStyle, writeFileAtomic } from '../../src/kit/index.ts';
import { trainerErrors } from './errors.ts';

/** `classical.json`, version 1: what the engine `classical` opens. Everything it decides by stands in it. */
export interface ClassicalModel {
  readonly version: 1;
  /** Trainer and version that wrote it. */
  readonly trainer: string;
  readonly style: JsonStyle;
  /** In the order of the answer. A field may only look at fields that stand in `decided` before it. */
  readonly fields: readonly ClassicalField[];
  /** Word 1- and 2-grams with their inverse document frequency; null where no field weighs terms. */
  readonly features: { readonly terms: readonly string[]; readonly idf: readonly number[] } | null;
  /** Training texts, for fields of form `nearest`. */
  readonly texts: readonly string[];
}

export type ClassicalField =
  /** First match of a shape in the text: A = capital, a = small letter, 9 = digit, others as they stand. */
  | { readonly name: string; readonly form: 'copy'; readonly shapes: readonly string[]; readonly absent: null | '' }
  /** Decision list: the value of the first cue that the text has. */
  | {
      readonly name: string;
      readonly form: 'rules';
      readonly values: readonly unknown[];
      readonly rules: readonly { readonly cue: string; readonly value: number }[];
      readonly otherwise: number;
    }
  /** Multinomial logistic regression on TF-IDF; `weights[term][value]`. */
  | {
      readonly name: string;
      readonly form: 'linear';
      readonly values: readonly unknown[];
      readonly weights: readonly (readonly number[])[];
      readonly bias: readonly number[];
    }
  /** By the value of another field. */
  | {
      readonly name: string;
      readonly form: 'by-field';
      readonly field: string;
      readonly answers: readonly { readonly value: unknown; readonly answer: unknown }[];
      readonly otherwise: unknown;
    }
  /** The answer of the nearest training text (cosine of TF-IDF). */
  | { readonly name: string; readonly form: 'nearest'; readonly answers: readonly unknown[] };

/**
 * Writes the checkpoint folder, with the record of how it came to be, in one move.
 * @throws CUPEL_TRAINER_OUTPUT_EXISTS
 */
export async function writeClassicalModel(
  job: TrainJob,
  model: ClassicalModel,
  result: Pick<TrainingRecord, 'steps' | 'metrics'>,
): Promise<void> {
  if ((await stat(job.output).catch(() => null)) !== null) {
    throw trainerErrors.CUPEL_TRAINER_OUTPUT_EXISTS({ message: `${job.output} exists`, where: job.output });
  }
  const partial = `${job.output}.partial`;
  await rm(partial, { recursive: true, force: true });
  await mkdir(partial, { recursive: true });
  const record: TrainingRecord = {
    version: 1,
    trainer: model.trainer,
    parent: 'none',
    recipeDigest: digestOf({ parameters: job.parameters }),
    dataDigest: digestOf({ data: job.data, replay: [] }),
    templateDigest: 'none',
    seed: job.seed,
    steps: result.steps,
    trainedTokens: 0,
    metrics: result.metrics,
  };
  await writeFileAtomic(join(partial, 'classical.json'), `${JSON.stringify(model)}\n`);
  await writeFileAtomic(join(partial, 'cupel_run.json'), `${JSON.stringify(record, null, 2)}\n`);
  await rename(partial, job.output);
}
