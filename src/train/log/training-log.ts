/** One line of `log.jsonl`. Clocks are in logs alone; records of evidence have none. */
export type LogLine = StepLine | ValidationLine;

export interface StepLine {
  readonly type: 'step';
  readonly step: number;
  readonly steps: number;
  readonly loss: number;
  readonly learningRate: number;
  readonly gradNorm: number;
  readonly tokens: number;
  readonly tokensPerSecond: number;
  readonly metrics: Readonly<Record<string, number>>;
  /** When it was written, ISO 8601. */
  readonly time: string;
}

export interface ValidationLine {
  readonly type: 'validation';
  readonly step: number;
  readonly metric: string;
  /** Null: could not be measured. */
  readonly value: number | null;
  readonly best: boolean;
  readonly time: string;
}

export interface RunDescription {
  /** Name of the run. */
  readonly name: string;
  /** What it is run with, flat: parameters by name. */
  readonly parameters: Readonly<Record<string, string | number | boolean>>;
}

/** Somewhere that lines go. */
export interface TrainingLog {
  write(line: LogLine): Promise<void>;
  close(end: 'finished' | 'failed' | 'stopped'): Promise<void>;
}

/** The numbers of a line, by name. A validation that could not be measured has none. */
export function scalarsOf(line: LogLine): readonly (readonly [name: string, value: number])[] {
  if (line.type === 'validation') return line.value === null ? [] : [[`validation/${line.metric}`, line.value]];
  const { loss, learningRate, gradNorm, tokensPerSecond, metrics } = line;
  return [
    ['train/loss', loss],
    ['train/learning_rate', learningRate],
    ['train/gradient_norm', gradNorm],
    ['train/tokens_per_second', tokensPerSecond],
    ...Object.entries(metrics).map(([name, value]) => [`train/${name}`, value] as const),
  ];
}

/** Settings by dotted name, numbers and texts alone. */
export function flatParameters(
  values: Readonly<Record<string, unknown>>,
  prefix = '',
): Readonly<Record<string, string | number | boolean>> {
  return Object.fromEntries(
    Object.entries(values).flatMap(([name, value]): [string, string | number | boolean][] => {
      if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean')
        return [[prefix + name, value]];
      if (typeof value !== 'object' || value === null) return [];
      return Object.entries(flatParameters(value as Record<string, unknown>, `${prefix}${name}.`));
    }),
  );
}
