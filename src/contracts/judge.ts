import type { Model } from './engine.ts';
import type { PluginHead } from './plugin.ts';

/** Scores pairs with a model it is handed. Asked in both orders by the runner. */
export interface Judge extends PluginHead<'judge'> {
  judge(
    pairs: readonly JudgePair[],
    services: { readonly model: Model; readonly signal?: AbortSignal },
  ): Promise<readonly JudgeVerdict[]>;
}

export interface JudgePair {
  readonly id: string;
  /** The prompt that both answers reply to, as rendered for the judge. */
  readonly prompt: string;
  readonly first: string;
  readonly second: string;
}

export interface JudgeVerdict {
  readonly id: string;
  /** Probability or degree in [0, 1] that the second answer is better; null = missing (unparsable), never a win. */
  readonly preferSecond: number | null;
  readonly explanation?: string;
}
