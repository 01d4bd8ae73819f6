import type { ObjectivePart, ObjectiveValue } from '../../../src/contracts/index.ts';
import { sigmoid, softplus } from '../numeric.ts';
import { replayLoss, sum, tokenLoss } from '../token-loss.ts';

export interface OddsRatioParameters {
  readonly beta: number;
  readonly replayWeight: number;
}

/** A mean log-probability nearer to 0 than this is taken as this: log-probabilities in f32 say no more, and odds stay finite. */
const nearestToCertain = -1e-7;

/**
 * Mean token −log p of prompt and chosen answer − β × mean of log σ(log odds(chosen) − log odds(rejected)), where
 * odds = p / (1 − p), p = exp(mean log-probability of the tokens of the answer), without its prompt.
 */
export function oddsRatioPreference(part: ObjectivePart, { beta, replayWeight }: OddsRatioParameters): ObjectiveValue {
  const { examples, replay, totals } = part;
  const likelihood = tokenLoss(examples, 1 / Math.max(1e-12, totals.labelWeights[0] ?? 0));
  const replayed = replayLoss(replay, totals, replayWeight);
  const metrics = {
    preference_loss: 0,
    chosen_nll: likelihood.loss,
    log_odds_ratio: 0,
    reward_margin: 0,
    reward_accuracy: 0,
    reward_chosen: 0,
    reward_rejected: 0,
    log_probability_chosen: 0,
  };
  const gradients = examples.map(({ policy, promptTokens }, index) => {
    const answers = policy.map((list, side) => Array.from(list).slice(promptTokens?.[side] ?? 0));
    const [chosen, rejected] = answers.map(oddsOf) as [Odds, Odds];
    const ratio = chosen.logOdds - rejected.logOdds;
    metrics.preference_loss += (beta * softplus(-ratio)) / totals.examples;
    metrics.log_odds_ratio += ratio / totals.examples;
    metrics.reward_margin += (beta * (chosen.mean - rejected.mean)) / totals.examples;
    metrics.reward_accuracy += (chosen.mean > rejected.mean ? 1 : 0) / totals.examples;
    metrics.reward_chosen += (beta * chosen.mean) / totals.examples;
    metrics.reward_rejected += (beta * rejected.mean) / totals.examples;
    metrics.log_probability_chosen += sum(answers[0] ?? []) / totals.examples;
    const pull = (-beta * sigmoid(-ratio)) / totals.examples;
    return policy.map((_, side) => {
      const gradient = side === 0 ? pull * chosen.slope : -pull * rejected.slope;
      const prompt = promptTokens?.[side] ?? 0;
      return (likelihood.gradients[index]?.[side] ?? []).map((term, token) => term + (token < prompt ? 0 : gradient));
    });
  });
  return {
    loss: likelihood.loss + metrics.preference_loss + replayed.loss,
    gradients,
    replayGradients: replayed.gradients,
    metrics,
  };
}

interface Odds {
  readonly mean: number;
  readonly logOdds: number;
  /** d log odds / d log-probability of each token. */
  readonly slope: number;
}

function oddsOf(logProbabilities: readonly number[]): Odds {
  const mean = sum(logProbabilities) / Math.max(1, logProbabilities.length);
  const bounded = Math.min(mean, nearestToCertain);
  const rest = -Math.expm1(bounded);
  return { mean, logOdds: bounded - Math.log(rest), slope: 1 / rest / Math.max(1, logProbabilities.length) };
}
