import type { Finding } from './finding.ts';
import type { CheckInput } from './input.ts';

/** Modules that are one tensor where the head is tied. */
const tiedModules: ReadonlySet<string> = new Set(['embed_tokens', 'lm_head', 'wte', 'tok_embeddings']);

/** Below this many parameters models take, and need, far larger learning rates. */
const smallModel = 5e7;

/** Settings of the recipe that cost others their fine-tune: tied heads, merges, forgetting, learning rates. */
export function checkSettings(input: CheckInput): Finding[] {
  return [...checkTied(input), ...checkMerge(input), ...checkForgetting(input), ...checkLearningRate(input)];
}

function checkTied({ model, recipe: { tuning } }: CheckInput): Finding[] {
  if (tuning.kind === 'full' || model.tiedHead === false) return [];
  const asked = (tuning.targets ?? []).filter((target) => tiedModules.has(target.split('.').at(-1) ?? ''));
  if (asked.length === 0) return [];
  return [
    {
      code: 'CUPEL_TRAIN_TIED_HEAD',
      severity: 'error',
      message: `adapters are asked for on ${asked.join(', ')}, and the head of this model ${model.tiedHead === true ? 'is' : 'may be'} its embedding`,
      where: 'parameters.tuning.targets',
    },
  ];
}

function checkMerge({ recipe: { tuning } }: CheckInput): Finding[] {
  if (tuning.kind !== 'qlora' || tuning.save === 'adapter') return [];
  return [
    {
      code: 'CUPEL_TRAIN_QLORA_MERGE',
      severity: 'warning',
      message: `the adapter is merged into the dequantized ${tuning.base ?? 'base'} that it is trained over; quantized again, the model is another one`,
      where: 'parameters.tuning',
    },
  ];
}

function checkForgetting({ replay, regressionSuites = 0 }: CheckInput): Finding[] {
  if (replay || regressionSuites > 0) return [];
  return [
    {
      code: 'CUPEL_TRAIN_NO_REPLAY',
      severity: 'warning',
      message: 'nothing is replayed, and no suite is known that would see what the base forgets',
      where: 'replay',
    },
  ];
}

/**
 * Usual highest learning rates of AdamW. The middle of each range is what TRL 1.16 has as default or advises (SFT 2e-5,
 * preferences 1e-6, adapters ten times as much); small models are trained with up to some 1e-2.
 */
function checkLearningRate({ objective, recipe, parameterCount }: CheckInput): Finding[] {
  const { learningRate, tuning } = recipe;
  const small = parameterCount === undefined || parameterCount < smallModel;
  const middle = (objective.sequences === 'answer' ? 2e-5 : 1e-6) * (tuning.kind === 'full' ? 1 : 10);
  const [least, most] = [middle / 100, middle * (small ? 1000 : 30)];
  if (learningRate >= least && learningRate <= most) return [];
  return [
    {
      code: 'CUPEL_TRAIN_LEARNING_RATE',
      severity: 'warning',
      message: `the learning rate is ${learningRate}; for ${tuning.kind} tuning by ${objective.name} ${least.toExponential(0)} to ${most.toExponential(0)} is usual`,
      where: 'parameters.learningRate',
    },
  ];
}
