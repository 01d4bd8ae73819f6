import type { Checkpoint } from './checkpoint.ts';
import type { Learner } from './learner.ts';
import type { Model } from './engine.ts';
import type { Objective, Recipe } from './objective.ts';
import type { PluginHead } from './plugin.ts';

/** Makes a candidate checkpoint. */
export interface Trainer extends PluginHead<'trainer'> {
  /** JSON Schema of the trainer's own parameters. */
  readonly options: Readonly<Record<string, unknown>>;
  /** `learner`: needs a base checkpoint and an engine that learns. `data`: needs rows alone. */
  readonly needs: 'learner' | 'data';
  /** Memory, steps and tokens; no side effects. */
  plan(job: TrainJob): Promise<TrainPlan>;
  /** Writes a checkpoint folder to `job.output` and returns what was done. Emits progress to the sink. */
  train(job: TrainJob, sink: (event: TrainEvent) => void, signal?: AbortSignal): Promise<TrainResult>;
}

export interface TrainJob {
  readonly id: string;
  readonly base: Checkpoint | null;
  /** Opened base and learner, when the trainer needs them. The learner belongs to the job: it is closed by who opened it. */
  readonly model: Model | null;
  readonly learner: Learner | null;
  /** The training loop of the room `train`, for trainers that need a learner. */
  readonly services: TrainServices | null;
  readonly data: readonly TrainingRow[];
  /** Rows mixed into each step to keep what the base knows, with the number of them a step. */
  readonly replay: { readonly rows: readonly TrainingRow[]; readonly perStep: number } | null;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly seed: number;
  /** Absolute path of the folder to write. */
  readonly output: string;
}

/** Canonical training row: exactly one of messages, chosen+rejected or text. */
export type TrainingRow =
  | { readonly id: string; readonly kind: 'messages'; readonly messages: readonly TrainingMessage[] }
  | {
      readonly id: string;
      readonly kind: 'preference';
      readonly prompt: readonly TrainingMessage[];
      readonly chosen: string;
      readonly rejected: string;
      readonly tags?: readonly string[];
    }
  | { readonly id: string; readonly kind: 'text'; readonly text: string };

export interface TrainingMessage {
  readonly role: 'system' | 'user' | 'assistant' | 'tool';
  readonly content: string;
  /** Weight of the loss on this message; default 1 for assistant, 0 else. */
  readonly weight?: number;
}

export interface TrainPlan {
  readonly steps: number;
  readonly tokens: number;
  readonly memoryBytes: number;
}

export type TrainEvent =
  | {
      readonly type: 'step';
      readonly step: number;
      readonly steps: number;
      readonly loss: number;
      readonly metrics: Readonly<Record<string, number>>;
      readonly tokens: number;
    }
  | { readonly type: 'warning'; readonly code: string; readonly message: string };

export interface TrainResult {
  readonly steps: number;
  readonly trainedTokens: number;
  readonly metrics: Readonly<Record<string, number>>;
  /** Loss of each step, for the plot. */
  readonly losses: readonly number[];
}

/** What the training room does for trainers that need a learner; handed over by jobs. */
export interface TrainServices {
  /** Tokenises and checks the rows and counts; no side effects. */
  plan(job: TrainJob, objective: Objective, recipe: Recipe): Promise<TrainPlan>;
  /** Checks, trains, writes `job.output` with its training record. */
  run(
    job: TrainJob,
    objective: Objective,
    recipe: Recipe,
    sink: (event: TrainEvent) => void,
    signal?: AbortSignal,
  ): Promise<TrainResult>;
}
