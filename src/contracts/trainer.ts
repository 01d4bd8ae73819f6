import type { Checkpoint } from './checkpoint.ts';
import type { Learner, LearnerOptions, LearnerPlan, StepShape } from './learner.ts';
import type { Model } from './engine.ts';
import type { DistillationObjective, Objective, Recipe } from './objective.ts';
import type { ToolCall, ToolDefinition } from './message.ts';
import type { PluginHead } from './plugin.ts';

/** Makes a candidate checkpoint. */
export interface Trainer extends PluginHead<'trainer'> {
  /** JSON Schema of the trainer's own parameters. */
  readonly options: Readonly<Record<string, unknown>>;
  /**
   * `learner`: needs a base checkpoint and an engine that learns. `model`: needs an open base to prepare tokens with,
   * and computes elsewhere. `data`: needs rows alone.
   */
  readonly needs: 'learner' | 'model' | 'data';
  /** Memory, steps, tokens and time; no side effects. */
  plan(job: TrainJob): Promise<TrainPlan>;
  /** Writes a checkpoint folder to `job.output` and returns what was done. Emits progress to the sink. */
  train(job: TrainJob, sink: (event: TrainEvent) => void, signal?: AbortSignal): Promise<TrainResult>;
  /** Id or path of the checkpoint that these parameters name as teacher. Jobs open it and hand over `openTeacher`. */
  teacher?(parameters: Readonly<Record<string, unknown>>): string | null;
  /**
   * Tokens that the base is to get before anything is tokenised. Jobs write the extended base, and it is what `base`,
   * `model` and `openLearner` of the job are.
   */
  vocabulary?(parameters: Readonly<Record<string, unknown>>): VocabularyOptions | null;
  /** What a trainer that computes elsewhere must have installed before it is trusted. Absent: nothing. */
  readonly environment?: TrainerEnvironment;
}

/** Software that a trainer runs on. It is made by one command, proves itself there, and is looked at before each use. */
export interface TrainerEnvironment {
  /** Looks at what lies in the folder for environments. Changes nothing. */
  state(environments: string): Promise<EnvironmentState>;
  /** Installs what is missing, then runs the self-test. Reports what it does, a line at a time. */
  setUp(environments: string, options: EnvironmentOptions): Promise<EnvironmentState>;
}

export interface EnvironmentOptions {
  /** Interpreter that the environment is made with; absent: the trainer's choice. */
  readonly python?: string;
  readonly note: (line: string) => void;
  readonly signal?: AbortSignal;
}

/** `ready`: installed, and its self-test passed. `untested`: installed. `absent`: not installed. */
export interface EnvironmentState {
  readonly state: 'ready' | 'untested' | 'absent';
  readonly detail: string;
}

/** How many tokens are taken from a corpus into a vocabulary, and which. */
export interface VocabularyOptions {
  /** Most new tokens. */
  readonly tokens: number;
  /** A piece of text that occurs less often becomes no token. */
  readonly minimumCount: number;
  /** The rows of the embedding become a multiple of this. */
  readonly multipleOf: number;
}

export interface TrainJob {
  readonly id: string;
  readonly base: Checkpoint | null;
  /** Opened base, when the trainer needs it. It belongs to the job: it is closed by who opened it. */
  readonly model: Model | null;
  /** A learner over the base, or over the teacher. Who asks for one closes it. Null where the trainer needs none. */
  readonly openLearner: ((options: LearnerOptions) => Promise<Learner>) | null;
  readonly openTeacher: ((options: LearnerOptions) => Promise<Learner>) | null;
  /** The training room, for trainers that need an open base. */
  readonly services: TrainServices | null;
  readonly data: readonly TrainingRow[];
  /** Rows mixed into each step to keep what the base knows, with the number of them a step. */
  readonly replay: { readonly rows: readonly TrainingRow[]; readonly perStep: number } | null;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly seed: number;
  /** Absolute path of the folder to write. */
  readonly output: string;
  /** Absolute path of a folder for what an interrupted run needs to go on, and for the log; null: nothing is kept. */
  readonly work: string | null;
  /** Go on from the last checkpoint in `work`, if there is one. */
  readonly resume: boolean;
  /** Absolute path of the folder in which trainers that compute elsewhere keep what they run on. Absent: there is none. */
  readonly environments?: string;
  /** Measures checkpoints while training, on the validation split; null: the last one is the result. */
  readonly validation: TrainValidation | null;
  /** Where else the log goes, beside `log.jsonl` in `work`. Absent: nowhere. */
  readonly logs?: TrainLogs;
  /**
   * A learner over a folder that the run has saved, to prove that merged weights say what the adapter said. Who asks for
   * one closes it. Absent: the proof is left out.
   */
  readonly openSaved?: (folder: string, options: LearnerOptions) => Promise<Learner>;
  /**
   * A folder that the run has saved (adapters over their base), to see whether it ends its answers. Who asks for one
   * closes it. Absent: that is not looked at.
   */
  readonly openSavedModel?: (folder: string) => Promise<Model>;
  /** What the teacher would take for passes of this shape. Absent, or null where its engine does not plan: not known. */
  readonly planTeacher?: (options: LearnerOptions, shape: StepShape) => Promise<LearnerPlan | null>;
  /** How many suites the gate will run that look for what was forgotten. Absent: not known. */
  readonly regressionSuites?: number;
}

/** Logs that a person asked for. The network is touched for an address that the person gave, and for nothing else. */
export interface TrainLogs {
  /** Event files in `work/tensorboard`. */
  readonly tensorboard?: boolean;
  /** `uri`: the address of a tracking server (its REST API), or the absolute path of a file store (`mlruns`). */
  readonly mlflow?: { readonly uri: string; readonly experiment: string };
  /** A JSONL file and a script in `work/wandb` that hands it to the `wandb` package; nothing is sent from here. */
  readonly wandb?: { readonly project: string };
}

/** Handed over by jobs: a suite metric on the validation split, of a checkpoint folder. */
export interface TrainValidation {
  readonly metric: string;
  readonly higherIsBetter: boolean;
  readonly everySteps: number;
  /** Stop after so many measurements without a better one; null: never. */
  readonly patience: number | null;
  measure(folder: string, signal?: AbortSignal): Promise<number | null>;
}

/** Canonical training row. */
export type TrainingRow = {
  readonly id: string;
  /** Kept for reports; never trained on. */
  readonly tags?: readonly string[];
} & (
  | {
      readonly kind: 'messages';
      readonly messages: readonly TrainingMessage[];
      readonly tools?: readonly ToolDefinition[];
    }
  | {
      readonly kind: 'preference';
      readonly prompt: readonly TrainingMessage[];
      readonly chosen: string;
      readonly rejected: string;
      readonly tools?: readonly ToolDefinition[];
    }
  | {
      readonly kind: 'labelled';
      readonly prompt: readonly TrainingMessage[];
      readonly answer: string;
      readonly desirable: boolean;
      readonly tools?: readonly ToolDefinition[];
    }
  | { readonly kind: 'text'; readonly text: string }
);

export interface TrainingMessage {
  readonly role: 'system' | 'user' | 'assistant' | 'tool';
  readonly content: string;
  /** Weight of the loss on this message; default 1 for assistant, 0 else. */
  readonly weight?: number;
  /** Name of the tool whose result this is. Only with role `tool`. */
  readonly name?: string;
  /** What the assistant calls, beside or instead of its content. Only with role `assistant`. */
  readonly toolCalls?: readonly ToolCall[];
}

export interface TrainPlan {
  readonly steps: number;
  /** Tokens that go forward in all steps. */
  readonly tokens: number;
  readonly labelledTokens: number;
  readonly memoryBytes: number;
  /** Estimated wall-clock seconds; null where the trainer can not tell. */
  readonly seconds: number | null;
  readonly parameters: number;
  readonly trainableParameters: number;
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
  /** Work without steps: how much of it is done. */
  | { readonly type: 'progress'; readonly done: number; readonly total: number; readonly what: string }
  | { readonly type: 'warning'; readonly code: string; readonly message: string }
  /** A training example as it is learned, in runs of text that are trained or only read. */
  | { readonly type: 'example'; readonly id: string; readonly runs: readonly ExampleRun[] }
  | { readonly type: 'checkpoint'; readonly step: number; readonly folder: string }
  | {
      readonly type: 'validation';
      readonly step: number;
      readonly metric: string;
      /** Null: could not be measured. */
      readonly value: number | null;
      readonly best: boolean;
    };

export interface ExampleRun {
  readonly text: string;
  readonly trained: boolean;
}

export interface TrainResult {
  readonly steps: number;
  readonly trainedTokens: number;
  readonly metrics: Readonly<Record<string, number>>;
  /** Loss of each step, for the plot. */
  readonly losses: readonly number[];
  /** Step whose weights were saved, where validation chose; else the last. */
  readonly bestStep?: number;
}

/** Token ids and label weights of every row, as any trainer must train on them. */
export interface PreparedRow {
  readonly id: string;
  readonly sequences: readonly PreparedSequence[];
  readonly desirable?: boolean;
}

export interface PreparedSequence {
  readonly tokens: Int32Array;
  /** Weight of the loss on each token; 0 = not labelled. The first token never is. */
  readonly weights: Float64Array;
  /** Where the answer starts: tokens before it are the prompt. */
  readonly promptLength: number;
}

/** What the training room does for trainers; handed over by jobs. */
export interface TrainServices {
  /** Tokenises and checks the rows and counts; no side effects. */
  plan(job: TrainJob, objective: Objective | DistillationObjective, recipe: Recipe): Promise<TrainPlan>;
  /** Checks, trains, writes `job.output` with its training record. */
  run(
    job: TrainJob,
    objective: Objective | DistillationObjective,
    recipe: Recipe,
    sink: (event: TrainEvent) => void,
    signal?: AbortSignal,
  ): Promise<TrainResult>;
  /** The checked rows as tokens, for trainers that compute elsewhere; replay rows apart. */
  prepare(
    job: TrainJob,
    shape: Pick<Objective, 'name' | 'sequences'>,
    recipe: Pick<Recipe, 'overlong' | 'maxTokens' | 'epochs' | 'batchSize'>,
    sink: (event: TrainEvent) => void,
  ): Promise<{ readonly rows: readonly PreparedRow[]; readonly replay: readonly PreparedRow[] }>;
  /**
   * What every optimiser step takes: indices of prepared rows, and its learning rate. The same whatever computes, so
   * that trainers that compute elsewhere take the same steps.
   */
  steps(
    recipe: Recipe,
    rows: number,
    seed: number,
  ): readonly { readonly rows: readonly number[]; readonly learningRate: number }[];
}
