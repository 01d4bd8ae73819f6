import type { Effort } from '../plugins/recipe.ts';
import type { BaseFacts } from './base-facts.ts';

/** A value that nobody wrote, and why it is this one. */
export interface Default {
  readonly value: unknown;
  readonly reason: string;
}

type SizeClass = 'tiny' | 'small' | 'medium' | 'large';

/** Upper ends in parameters: the demo's base; SmolLM2-135M; SmolLM2-360M, Qwen2.5-0.5B, Llama-3.2-1B; the rest. */
const sizeClasses: readonly (readonly [SizeClass, number])[] = [
  ['tiny', 10e6],
  ['small', 200e6],
  ['medium', 1.3e9],
  ['large', Infinity],
];

/**
 * Share of the method's own learning rate, which is stated for models of a few million parameters. Larger models want
 * smaller steps; adapters want about ten times those of full tuning (Schulman et al. 2025, "LoRA Without Regret"),
 * three times in small models, whose full-tuning rate is high already. docs/guides/training.md shows the resulting rates
 * beside published ones.
 */
const learningRateShare: Readonly<Record<SizeClass, { readonly full: number; readonly adapter: number }>> = {
  tiny: { full: 1, adapter: 3 },
  small: { full: 0.3, adapter: 1 },
  medium: { full: 0.05, adapter: 0.5 },
  large: { full: 0.02, adapter: 0.2 },
};

/**
 * Families that are trained at about half the rate of a Llama: DPO of Mistral-7B at 5e-7 (Zephyr, Tunstall et al. 2023)
 * beside TRL's 1e-6, and Qwen's own fine-tuning script at 1e-5 beside TRL's 2e-5.
 */
const halfRate = new Set(['mistral', 'qwen2', 'qwen3']);

/**
 * Fewer steps want larger ones and more passes smaller ones; rank is how much adapters can hold. Tiny models are tuned
 * whole at every effort: adapters save nothing there.
 */
const efforts: Readonly<
  Record<Effort, { readonly epochs: number; readonly learningRate: number; readonly rank: number }>
> = {
  quick: { epochs: 1 / 3, learningRate: 1.5, rank: 8 },
  balanced: { epochs: 1, learningRate: 1, rank: 16 },
  thorough: { epochs: 2, learningRate: 0.7, rank: 64 },
};

function sizeClassOf(parameters: number | null): SizeClass {
  return sizeClasses.find(([, end]) => (parameters ?? 0) <= end)?.[0] ?? 'large';
}

/** Epochs for an effort, from the method's own number. */
export function defaultEpochs(effort: Effort, own: number): Default {
  const value = Math.max(1, Math.round(own * efforts[effort].epochs));
  return { value, reason: `effort ${effort}` };
}

/** Full tuning where the model is small enough for the effort, else adapters on all projections of each layer. */
export function defaultTuning(effort: Effort, facts: BaseFacts): Default {
  const size = sizeClassOf(facts.parameters);
  const reason = `effort ${effort}, ${describeSize(facts)}`;
  if (size === 'tiny' || (size === 'small' && effort !== 'quick')) return { value: { kind: 'full' }, reason };
  return { value: withAdapterDefaults({ kind: 'lora' }, effort), reason };
}

/** What only adapters have says that they are meant; a base in so few bits, that it is of qlora. */
export function adapterKind(tuning: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  if (Object.hasOwn(tuning, 'kind')) return tuning;
  return { kind: tuning['base'] === 'q8_0' || tuning['base'] === 'q4_0' ? 'qlora' : 'lora', ...tuning };
}

/** Rank by effort; alpha twice the rank, so that the rank can change while the learning rate stays. */
export function withAdapterDefaults(
  tuning: Readonly<Record<string, unknown>>,
  effort: Effort,
): Readonly<Record<string, unknown>> {
  const kind = tuning['kind'];
  if (kind !== 'lora' && kind !== 'qlora') return tuning;
  const rank = typeof tuning['rank'] === 'number' ? tuning['rank'] : efforts[effort].rank;
  return { rank, alpha: 2 * rank, ...(kind === 'qlora' ? { base: 'q8_0' } : {}), ...tuning };
}

/** The method's own rate, by size and family of the base, kind of tuning and effort. Two digits. */
export function defaultLearningRate(effort: Effort, facts: BaseFacts, tuning: unknown, own: number): Default {
  const kind = (tuning as { readonly kind?: unknown } | undefined)?.kind;
  const share =
    learningRateShare[sizeClassOf(facts.parameters)][kind === 'lora' || kind === 'qlora' ? 'adapter' : 'full'];
  const family = halfRate.has(facts.family ?? '') ? 0.5 : 1;
  const value = Number((own * share * family * efforts[effort].learningRate).toPrecision(2));
  return {
    value,
    reason: `effort ${effort}, ${describeSize(facts)}${facts.family === null ? '' : `, ${facts.family}`}`,
  };
}

function describeSize({ parameters }: BaseFacts): string {
  if (parameters === null) return 'size of the base unknown';
  return parameters >= 1e9
    ? `${(parameters / 1e9).toFixed(1)}B parameters`
    : `${(parameters / 1e6).toFixed(1)}M parameters`;
}
