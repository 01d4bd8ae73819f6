import type {
  ForwardOptions,
  Learner,
  LearnerOptions,
  LearnerPlan,
  OptimiserStep,
  StepShape,
  TokenBatch,
} from '../../src/contracts/index.ts';
import { addon, settle, type BatchInput, type Callback, type LearnerInput, type NativeLearnerHandle } from './addon.ts';
import { nativeErrors, unwrap } from './errors.ts';

/** A trainable copy of a checkpoint, on a thread of its own. @throws every CUPEL_NATIVE_* error of a bad checkpoint. */
export async function openLearner(path: string, input: LearnerInput): Promise<Learner> {
  const { NativeLearner } = addon();
  let handle: NativeLearnerHandle | undefined;
  await settle((callback) => {
    handle = unwrap(() => new NativeLearner(path, input, callback));
  });
  return new OpenLearner(handle as NativeLearnerHandle, path);
}

/** What such a learner would take for steps of this shape. @throws as opening it, as far as config and options show */
export async function planLearner(path: string, input: LearnerInput, shape: StepShape): Promise<LearnerPlan> {
  const { plan } = await settle((callback) => unwrap(() => addon().planLearner(path, input, shape, callback)));
  return plan as LearnerPlan;
}

/** Options as the addon takes them; `threads` stands in where they name none. */
export function learnerInput(options: LearnerOptions, threads: number): LearnerInput {
  const { adapter, compute, base, recompute, head, frozen } = options;
  return {
    threads: options.threads ?? threads,
    ...(compute === undefined ? {} : { compute }),
    ...(base === undefined ? {} : { base }),
    ...(recompute === undefined ? {} : { recompute }),
    ...(head === undefined ? {} : { head }),
    ...(frozen === undefined ? {} : { frozen }),
    ...(adapter === undefined || adapter === null ? {} : { adapter }),
  };
}

type TemperedOptions = ForwardOptions & { readonly temperature?: number };

class OpenLearner implements Learner {
  readonly parameterCount: number;
  readonly trainableCount: number;
  readonly #handle: NativeLearnerHandle;
  readonly #path: string;
  #closing: Promise<void> | undefined;

  constructor(handle: NativeLearnerHandle, path: string) {
    this.#handle = handle;
    this.#path = path;
    this.parameterCount = unwrap(() => handle.parameterCount());
    this.trainableCount = unwrap(() => handle.trainableCount());
  }

  logProbabilities(batch: TokenBatch, options: ForwardOptions = {}): Promise<Float32Array> {
    return this.#floats((handle, callback) => handle.forward(batchInput(batch, options), callback));
  }

  distributions(batch: TokenBatch, ids: Int32Array | null, options: TemperedOptions = {}): Promise<Float32Array> {
    return this.#floats((handle, callback) => handle.distributions(batchInput(batch, options), ids, callback));
  }

  async topTokens(
    batch: TokenBatch,
    count: number,
    options: Omit<TemperedOptions, 'keep'> = {},
  ): Promise<{ readonly ids: Int32Array; readonly logProbabilities: Float32Array }> {
    const { ids, floats } = await this.#run((handle, callback) =>
      handle.topTokens(batchInput(batch, { ...options, keep: false }), count, callback),
    );
    return { ids: ids ?? new Int32Array(), logProbabilities: floats ?? new Float32Array() };
  }

  rewards(batch: TokenBatch, options: ForwardOptions = {}): Promise<Float32Array> {
    return this.#floats((handle, callback) => handle.rewards(batchInput(batch, options), callback));
  }

  async backward(gradients: Float32Array): Promise<void> {
    await this.#run((handle, callback) => handle.backward(gradients, callback));
  }

  async step(options: OptimiserStep): Promise<{ readonly gradNorm: number }> {
    const { learningRate, beta1, beta2, epsilon, weightDecay, maxGradNorm } = options;
    const reply = await this.#run((handle, callback) =>
      handle.step({ learningRate, beta1, beta2, epsilon, weightDecay, maxGradNorm }, callback),
    );
    return { gradNorm: reply.number ?? 0 };
  }

  async save(
    directory: string,
    options: { readonly dtype?: 'f32' | 'bf16'; readonly form?: 'model' | 'adapter' } = {},
  ): Promise<void> {
    const { dtype = 'f32', form = 'model' } = options;
    await this.#run((handle, callback) => handle.save(directory, dtype, form, callback));
  }

  async saveState(file: string): Promise<void> {
    await this.#run((handle, callback) => handle.saveState(file, callback));
  }

  async loadState(file: string): Promise<void> {
    await this.#run((handle, callback) => handle.loadState(file, callback));
  }

  tensor(name: string, which: 'weight' | 'gradient'): Float32Array {
    const handle = this.#open();
    return unwrap(() => handle.tensor(name, which === 'gradient'));
  }

  tensorNames(): readonly string[] {
    const handle = this.#open();
    return unwrap(() => handle.tensorNames());
  }

  close(): Promise<void> {
    this.#closing ??= settle((callback) => this.#handle.close(callback)).then(() => undefined);
    return this.#closing;
  }

  async #floats(start: (handle: NativeLearnerHandle, callback: Callback) => void): Promise<Float32Array> {
    return (await this.#run(start)).floats ?? new Float32Array();
  }

  // Async, so that what the addon refuses at once is a rejection too.
  async #run(start: (handle: NativeLearnerHandle, callback: Callback) => void): ReturnType<typeof settle> {
    const handle = this.#open();
    return settle((callback) => unwrap(() => start(handle, callback)));
  }

  #open(): NativeLearnerHandle {
    if (this.#closing !== undefined) {
      throw nativeErrors.CUPEL_NATIVE_CLOSED({ message: 'the learner has been closed', where: this.#path });
    }
    return this.#handle;
  }
}

function batchInput(batch: TokenBatch, options: TemperedOptions): BatchInput {
  const { tokens, offsets, labelled } = batch;
  const { keep = true, adapter = true, temperature = 1 } = options;
  return { tokens, offsets, labelled, keep, adapter, temperature };
}
