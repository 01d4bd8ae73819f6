import type { PluginHead } from './plugin.ts';
import type { ExampleRun, PreparedRow, PreparedSequence, TrainingRow } from './trainer.ts';

/** Writes a training as files that another program reads. Runs nothing, and claims no equal result. */
export interface TrainingExporter extends PluginHead<'exporter'> {
  /** Whose documentation the written fields were taken from, e.g. a repository and the date of its commit. */
  readonly readFrom: string;
  /** @throws a coded error naming the first setting or row that the other program can not be told */
  files(training: ExportedTraining): readonly ExportedFile[];
}

export interface ExportedTraining {
  readonly id: string;
  /** Id of the trainer: `sft`, `dpo`, … */
  readonly method: string;
  /** JSON Schema of that trainer's parameters, with its defaults, and the parameters that were given. */
  readonly options: Readonly<Record<string, unknown>>;
  readonly parameters: Readonly<Record<string, unknown>>;
  /** Absolute path of the base, and its config.json. */
  readonly base: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly rows: readonly TrainingRow[];
  /** The same rows as tokens, in the same order; rows that were left out for their length are in neither. */
  readonly prepared: readonly PreparedRow[];
  /** Text of a sequence in runs that are trained or only read, special tokens as they are written. */
  readonly runs: (sequence: PreparedSequence) => readonly ExampleRun[];
  /** Tokens of a text; special tokens in it are parsed, none are added. */
  readonly tokenize: (text: string) => readonly number[];
  readonly hasReplay: boolean;
  readonly hasValidation: boolean;
  /** Optimiser steps in all. */
  readonly steps: number;
  readonly contextLength: number;
  readonly seed: number;
}

export interface ExportedFile {
  /** Relative to the folder of the export. */
  readonly path: string;
  readonly text: string;
}
