import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { TrainEvent, TrainValidation } from '../contracts/index.ts';
import type { ValidationState } from './run-state.ts';
import { warn } from './warn.ts';

/** Writes `<folder>/model`, which can be opened, and tells what the saved weights differ from the trained ones. */
type Save = (folder: string) => Promise<number | null>;

/** Measures saved weights while training, and keeps those that measured best in `<folder>/step-<n>`. */
export class Validation {
  readonly #port: TrainValidation;
  readonly #folder: string;
  readonly #save: Save;
  readonly #sink: (event: TrainEvent) => void;

  constructor(port: TrainValidation, folder: string, save: Save, sink: (event: TrainEvent) => void) {
    this.#port = port;
    this.#folder = folder;
    this.#save = save;
    this.#sink = sink;
  }

  get metric(): string {
    return this.#port.metric;
  }

  /** Weights of the last step compete too. */
  isDue(step: number, steps: number): boolean {
    return step % this.#port.everySteps === 0 || step === steps;
  }

  folderOf(step: number): string {
    return join(this.#folder, `step-${step}`);
  }

  /**
   * Saves and measures the weights of a step. What can not be measured is told, and is never the best; of equal values
   * the earlier is.
   * @throws the reason of the signal
   */
  async measure(
    step: number,
    before: ValidationState,
    signal?: AbortSignal,
  ): Promise<{ readonly state: ValidationState; readonly value: number | null; readonly wins: boolean }> {
    const { value, mergeDifference } = await this.#value(step, signal);
    const best = before.best;
    const wins =
      value !== null && (best === null || (this.#port.higherIsBetter ? value > best.value : value < best.value));
    this.#sink({ type: 'validation', step, metric: this.#port.metric, value, best: wins });
    const state = wins
      ? { measured: step, best: { step, value, mergeDifference }, since: 0 }
      : { measured: step, best, since: before.since + 1 };
    return { state, value, wins };
  }

  /** Whether the best has not been beaten for long enough. */
  isExhausted({ best, since }: ValidationState): boolean {
    return this.#port.patience !== null && best !== null && since >= this.#port.patience;
  }

  /** Removes all weights but those of these steps. */
  async keep(steps: ReadonlySet<number>): Promise<void> {
    const kept = new Set([...steps].map((step) => `step-${step}`));
    for (const name of await readdir(this.#folder).catch(() => [] as string[])) {
      if (!kept.has(name)) await rm(join(this.#folder, name), { recursive: true, force: true });
    }
  }

  /** Removes all of them. */
  async clear(): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
  }

  /** Hours of training are worth more than one measurement, or the room on the disk that it takes. */
  async #value(
    step: number,
    signal?: AbortSignal,
  ): Promise<{ readonly value: number | null; readonly mergeDifference: number | null }> {
    const folder = this.folderOf(step);
    const partial = `${folder}.partial`;
    try {
      for (const old of [partial, folder]) await rm(old, { recursive: true, force: true });
      await mkdir(this.#folder, { recursive: true });
      const mergeDifference = await this.#save(partial);
      await rename(partial, folder);
      const value = await this.#port.measure(join(folder, 'model'), signal);
      return { value: value !== null && Number.isFinite(value) ? value : null, mergeDifference };
    } catch (error) {
      signal?.throwIfAborted();
      await rm(partial, { recursive: true, force: true }).catch(() => {});
      warn(this.#sink, 'CUPEL_TRAIN_NOT_MEASURED', `step ${step}: ${(error as Error).message}`);
      return { value: null, mergeDifference: null };
    }
  }
}
