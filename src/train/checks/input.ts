import type { Model, Objective, Recipe, TrainingRow } from '../../contracts/index.ts';
import type { Example, ExampleShape } from '../examples.ts';

/** What is known before a learner is opened. */
export interface CheckInput {
  readonly model: Model;
  readonly rows: readonly TrainingRow[];
  /** Made of the rows by `prepareExamples`. */
  readonly examples: readonly Example[];
  readonly objective: ExampleShape & Pick<Objective, 'mismatched'>;
  readonly recipe: Pick<Recipe, 'batchSize' | 'learningRate' | 'tuning'>;
  /** Parameters of the trainer: the weights of desirable and undesirable examples are read. */
  readonly parameters?: Readonly<Record<string, unknown>>;
  /** Whether rows of what the base knows are mixed in. */
  readonly replay: boolean;
  /** Suites of the gate that look for what was forgotten. Absent: not known. */
  readonly regressionSuites?: number;
  /** Digest of the template that the base was trained with, from its training record. Absent or null: not known. */
  readonly recordedTemplate?: string | null;
  /** Digest of the template that the base has. With `recordedTemplate`. */
  readonly template?: string;
  /** All of the model. Absent: not known. */
  readonly parameterCount?: number;
}
