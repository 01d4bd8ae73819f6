import type { LoopProgress } from './loop.ts';

/** What a run is: it can go on only as the same. Digests, and the number of all steps. */
export interface RunIdentity {
  readonly steps: number;
  readonly data: string;
  readonly recipe: string;
  readonly base: string;
}

/** How a run stands, beside what the learner holds. */
export interface RunState {
  readonly progress: LoopProgress;
  readonly validation: ValidationState;
}

export interface ValidationState {
  /** Last step that was measured; 0: none. */
  readonly measured: number;
  readonly best: Best | null;
  /** Measurements since the best one. */
  readonly since: number;
}

export interface Best {
  readonly step: number;
  readonly value: number;
  /** Of adapters: what `mergeDifference` found between them and the saved model. */
  readonly mergeDifference: number | null;
}

/**
 * What is wrong with a state that was read, or null. Steps become names of folders and losses become evidence, so
 * nothing is taken that this program would not have written.
 */
export function faultOf(state: unknown, step: number): string | null {
  if (!isObject(state) || !isObject(state['progress']) || !isObject(state['validation'])) return 'it holds no state';
  const { progress, validation } = state as { progress: Record<string, unknown>; validation: Record<string, unknown> };
  const { losses, warned, metrics, trainedTokens } = progress;
  if (progress['step'] !== step) return `it is of step ${String(progress['step'])}`;
  if (!isCount(trainedTokens)) return `its trained tokens are ${String(trainedTokens)}`;
  if (!Array.isArray(losses) || losses.length !== step || !losses.every(Number.isFinite)) {
    return `it has not the losses of ${step} steps`;
  }
  if (!Array.isArray(warned) || !warned.every((code) => typeof code === 'string')) return 'its warnings are no codes';
  if (!isObject(metrics) || !Object.values(metrics).every(Number.isFinite)) return 'its metrics are no numbers';
  const { measured, best, since } = validation;
  if (!isCount(measured) || measured > step || !isCount(since)) return 'its measurements are no counts';
  return best === null || isBest(best, measured) ? null : 'its best step is none that was measured';
}

/** What is wrong with an identity that was read, or null. */
export function identityFault(identity: unknown): string | null {
  const known = isObject(identity) && isCount(identity['steps']);
  const digests = known && ['data', 'recipe', 'base'].every((part) => typeof identity[part] === 'string');
  return digests ? null : 'it does not say of which run it is';
}

function isBest(value: unknown, measured: number): boolean {
  if (!isObject(value)) return false;
  const { step, value: found, mergeDifference } = value;
  return (
    isCount(step) &&
    step > 0 &&
    step <= measured &&
    Number.isFinite(found) &&
    (mergeDifference === null || Number.isFinite(mergeDifference))
  );
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
