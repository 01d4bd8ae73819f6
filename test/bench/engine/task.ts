// What the bench asks of either engine, and what it hears. Both sides do the same work on the same tokens.

export type Task =
  /** `tokens` greedy tokens in each of `sequences` that share a prefix of `prefix` tokens; the prefix is not timed. */
  | { readonly kind: 'decode'; readonly sequences: number; readonly prefix: number; readonly tokens: number }
  /** A prompt that was not seen before, up to its first token. */
  | { readonly kind: 'prefill'; readonly tokens: number }
  | EvaluationTask
  | LogLikelihoodTask
  /** `decode` of 8 sequences under a JSON schema. */
  | { readonly kind: 'constrained'; readonly tokens: number; readonly constrained: boolean }
  /** Greedy texts of prompts alone and together. */
  | { readonly kind: 'agreement'; readonly prompts: number; readonly tokens: number };

export interface EvaluationTask {
  readonly kind: 'evaluation';
  readonly prompts: number;
  readonly shared: number;
  readonly own: number;
  readonly generated: number;
}

export interface LogLikelihoodTask {
  readonly kind: 'log-likelihood';
  readonly questions: number;
  readonly options: number;
  readonly context: number;
  readonly continuation: number;
  /** `shared`: the context of a question is read once. `each`: once an option (the peer's only). */
  readonly form: 'shared' | 'each';
}

export interface Measured {
  /** Units of work done: tokens, prompts, questions. */
  readonly amount: number;
  readonly seconds: number;
  /** User and system time of all threads. */
  readonly cpuSeconds: number;
}

export interface Opened {
  /** From before the engine was loaded to the first token of a short prompt. */
  readonly seconds: number;
  readonly cpuSeconds: number;
}

/** One engine in a process of its own. */
export interface Side {
  run(task: Task, repetition: number): Promise<Measured>;
}

export interface OpenRequest {
  readonly side: 'ours' | 'peer';
  readonly model: string;
  readonly threads: number;
  /** Folder in which the peer is installed. */
  readonly peers: string;
}

/** Messages to the child, and its answers. */
export type Request = { readonly open: OpenRequest } | { readonly task: Task; readonly repetition: number };
export interface Reply {
  readonly error?: string;
  readonly opened?: Opened;
  readonly measured?: Measured;
  /** Bytes: highest resident set so far, over that before the engine was opened. */
  readonly peakGrowth: number;
}

/** Runs and times. @param amount units of work, or what counts them from the result. */
export async function timed<Result>(
  work: () => Result | Promise<Result>,
  amount: number | ((result: Result) => number),
): Promise<Measured> {
  const before = process.cpuUsage();
  const start = performance.now();
  const result = await work();
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(before);
  return {
    amount: typeof amount === 'number' ? amount : amount(result),
    seconds,
    cpuSeconds: (user + system) / 1e6,
  };
}
