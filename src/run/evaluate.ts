import type {
  Case,
  EngineCapabilities,
  Generate,
  Model,
  ModelSettings,
  PlayEpisodes,
  Progress,
  Run,
  RunIdentity,
  RunStore,
  Suite,
} from '../contracts/index.ts';
import { digestOf, isCupelError, runId } from '../kit/index.ts';
import { runErrors } from './errors.ts';
import { interrupted, isAborted } from './interrupt.ts';
import { checkPrompt } from './prompt.ts';
import { record, type Outcome } from './recorder.ts';
import { resolveValidators, validatorNames, type ValidatorLookup } from './scoring.ts';
import { caseSet, checkWhole, selectCases, type Selection } from './selection.ts';
import { chooseAll, generateAll, optionsOf, playAll, type Job, type Variant } from './tasks.ts';

export interface EvaluateOptions extends Selection, RunSettings {
  readonly model: Model;
  /** Name of the checkpoint in reports; its digest is the model's. */
  readonly checkpointId: string;
  /** Of the engine that opened the model. */
  readonly capabilities: EngineCapabilities;
  /** Defaults: worked examples and schema are used where the suite has them. */
  readonly variant?: Partial<Variant>;
}

/** What every kind of run takes. */
export interface RunSettings {
  readonly validators: ValidatorLookup;
  readonly store: RunStore;
  readonly seed: number;
  /** Default 1. */
  readonly epochs?: number;
  readonly progress?: Progress;
  readonly signal?: AbortSignal;
  /** Only for suites with task `episode`. */
  readonly playEpisodes?: PlayEpisodes;
  /** Most cases handed to the engine at once; never changes a row. Default: all for completions, 32 for choices. */
  readonly concurrency?: number;
}

/**
 * Evaluates a checkpoint on a split of a suite: appends one row a case to the store and reads the run back. Cases that
 * have a row from an interrupted attempt are not computed again; a complete run is only read. Rows hold no clock and
 * no trace of order or batching.
 * @throws CUPEL_RUN_ENGINE_CANNOT and every fault of suite or options before the first request; CUPEL_RUN_INTERRUPTED
 *   and CUPEL_RUN_ENGINE_FAILED with the finished rows kept.
 */
export async function evaluate(options: EvaluateOptions): Promise<Run> {
  const { model, suite } = options;
  const variant: Variant = {
    fewShot: (options.variant?.fewShot ?? true) && (suite.prompt.fewShot ?? []).length > 0,
    constrained: (options.variant?.constrained ?? true) && suite.decoding.jsonSchema !== undefined,
  };
  checkCapabilities(suite, variant, options.capabilities, model.engine);
  const { jsonSchema } = suite.decoding;
  if (suite.task !== 'choice' && variant.constrained && jsonSchema !== undefined)
    await model.checkConstraint?.({ jsonSchema });
  return runCases(
    { ...options, variant },
    {
      checkpoint: { id: options.checkpointId, digest: model.digest },
      engine: model.engine,
      contextLength: model.contextLength,
      ...(model.settings === undefined ? {} : { settings: model.settings }),
    },
    (requests, signal) => model.generate(requests, signal),
    model,
  );
}

interface Subject {
  readonly checkpoint: RunIdentity['checkpoint'];
  readonly engine: string;
  readonly contextLength?: number;
  readonly settings?: ModelSettings;
}

/** The common course of a run, whoever answers. @param model null: no log-likelihoods. */
export async function runCases(
  options: Selection & RunSettings & { readonly variant: Variant },
  subject: Subject,
  generate: Generate,
  model: Model | null,
): Promise<Run> {
  const { suite, split, store, seed, signal, epochs = 1, variant } = options;
  checkWhole('epochs', epochs, 1);
  checkWhole('seed', seed, 0);
  if (options.concurrency !== undefined) checkWhole('concurrency', options.concurrency, 1);
  const cases = selectCases(options);
  checkPrompt(suite, cases);
  if (suite.task === 'choice') for (const item of cases) optionsOf(item, suite);
  const play = checkTask(suite, options.playEpisodes);
  const table = await resolveValidators(suite, cases, options.validators);

  const identity = identify(options, subject, cases, validatorNames(table), epochs);
  const writer = await store.begin(identity);
  try {
    if (!writer.complete) {
      const jobs = jobsOf(cases, epochs).filter(({ item, epoch }) => !writer.done.has(`${item.id}@${epoch}`));
      const total = cases.length * epochs;
      const task = options.progress?.begin(`${suite.id}/${split} ${subject.checkpoint.id}`, total, 'cases') ?? null;
      task?.advance(total - jobs.length);
      try {
        const size = options.concurrency ?? (suite.task === 'choice' ? 32 : Math.max(1, jobs.length));
        const outcomes =
          suite.task === 'choice' && model !== null
            ? chooseAll(suite, jobs, variant, model, size, signal)
            : play !== null
              ? playAll(suite, jobs, play, generate, size, {
                  ...(signal === undefined ? {} : { signal }),
                  ...(subject.contextLength === undefined ? {} : { contextLength: subject.contextLength }),
                  seed,
                })
              : generateAll(suite, jobs, variant, generate, size, seed, signal);
        if (!isAborted(signal) && jobs.length > 0)
          await consume(outcomes, signal, (outcome) => record(outcome, suite, split, table, writer, task));
      } finally {
        task?.end();
      }
      if (writer.done.size < total) throw interrupted(writer.done.size, total, `run ${identity.id}`);
      await writer.finish();
    }
  } finally {
    await writer.close();
  }
  return store.read(identity.id);
}

/** Takes outcomes as they come. What an engine reports as failed after the interruption is no failure of the case. */
async function consume(
  outcomes: AsyncIterable<Outcome>,
  signal: AbortSignal | undefined,
  take: (outcome: Outcome) => Promise<void>,
): Promise<void> {
  const source = outcomes[Symbol.asyncIterator]();
  try {
    for (;;) {
      let next: IteratorResult<Outcome, unknown>;
      try {
        next = await source.next();
      } catch (cause) {
        if (isAborted(signal)) return;
        if (isCupelError(cause)) throw cause;
        throw runErrors.CUPEL_RUN_ENGINE_FAILED({
          message: cause instanceof Error ? cause.message : String(cause),
          cause,
        });
      }
      if (next.done === true) return;
      if (isAborted(signal) && next.value.error !== undefined) return;
      await take(next.value);
      if (isAborted(signal)) return;
    }
  } finally {
    await source.return?.(undefined);
  }
}

function checkCapabilities(suite: Suite, variant: Variant, can: EngineCapabilities, engine: string): void {
  const lacking = [
    ...(suite.task !== 'choice' && !can.generate ? ['generate'] : []),
    ...(suite.task === 'choice' && !can.score ? ['score'] : []),
    ...(variant.constrained && suite.task === 'generate' && !can.jsonSchema ? ['jsonSchema'] : []),
    ...(suite.task !== 'choice' && suite.decoding.sampling !== undefined && !can.sampling ? ['sampling'] : []),
  ];
  if (lacking.length > 0) {
    throw runErrors.CUPEL_RUN_ENGINE_CANNOT({
      message: `engine ${engine} cannot ${lacking.join(' and ')}, which suite ${suite.id} needs`,
      where: suite.path,
    });
  }
}

function checkTask(suite: Suite, play: PlayEpisodes | undefined): PlayEpisodes | null {
  if (suite.task === 'pairwise')
    throw runErrors.CUPEL_RUN_TASK_UNSUITED({
      message: `suite ${suite.id} compares two runs; it cannot be run on one checkpoint`,
      where: suite.path,
    });
  if (suite.task !== 'episode') return null;
  if (play === undefined)
    throw runErrors.CUPEL_RUN_TASK_UNSUITED({
      message: `suite ${suite.id} has episodes, but no player was given`,
      where: suite.path,
    });
  return play;
}

function jobsOf(cases: readonly Case[], epochs: number): Job[] {
  return Array.from({ length: epochs }, (_, index) => cases.map((item) => ({ item, epoch: index + 1 }))).flat();
}

function identify(
  options: Selection & { readonly seed: number; readonly variant: Variant },
  subject: Subject,
  cases: readonly Case[],
  validators: readonly string[],
  epochs: number,
): RunIdentity {
  const { suite, split, seed, variant } = options;
  const rest: Omit<RunIdentity, 'id'> = {
    version: 1,
    checkpoint: subject.checkpoint,
    engine: subject.engine,
    suite: { id: suite.id, version: suite.version, digest: suite.digest, layer: suite.layer },
    split,
    decoding: {
      maxTokens: suite.decoding.maxTokens,
      stop: suite.decoding.stop ?? [],
      fewShot: variant.fewShot,
      jsonSchema: variant.constrained ? digestOf(suite.decoding.jsonSchema) : null,
      ...(suite.decoding.sampling === undefined ? {} : { sampling: suite.decoding.sampling }),
      ...(subject.settings === undefined ? {} : { engine: subject.settings }),
    },
    validators,
    seed,
    epochs,
    cases: caseSet(cases),
  };
  return { ...rest, id: runId(rest) };
}
