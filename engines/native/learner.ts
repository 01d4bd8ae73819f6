import type { Learner, OptimiserStep, TokenBatch } from '../../src/contracts/index.ts';
import { addon, settle, type Callback, type NativeLearnerHandle } from './addon.ts';
import { nativeErrors, unwrap } from './errors.ts';

/** A trainable copy of a checkpoint, on a thread of its own. @throws every CUPEL_NATIVE_* error of a bad checkpoint. */
export async function openLearner(path: string, threads: number): Promise<Learner> {
  const { NativeLearner } = addon();
  let handle: NativeLearnerHandle | undefined;
  await settle((callback) => {
    handle = unwrap(() => new NativeLearner(path, threads, callback));
  });
  return new OpenLearner(handle as NativeLearnerHandle, path);
}

class OpenLearner implements Learner {
  readonly parameterCount: number;
  readonly #handle: NativeLearnerHandle;
  readonly #path: string;
  #closing: Promise<void> | undefined;

  constructor(handle: NativeLearnerHandle, path: string) {
    this.#handle = handle;
    this.#path = path;
    this.parameterCount = unwrap(() => handle.parameterCount());
  }

  async logProbabilities(batch: TokenBatch, options: { readonly keep?: boolean } = {}): Promise<Float32Array> {
    const { tokens, offsets, labelled } = batch;
    const reply = await this.#run((handle, callback) =>
      handle.forward(tokens, offsets, labelled, options.keep ?? true, callback),
    );
    return reply.floats ?? new Float32Array();
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

  async save(directory: string, options: { readonly dtype?: 'f32' | 'bf16' } = {}): Promise<void> {
    await this.#run((handle, callback) => handle.save(directory, options.dtype ?? 'f32', callback));
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

  #run(start: (handle: NativeLearnerHandle, callback: Callback) => void): ReturnType<typeof settle> {
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
