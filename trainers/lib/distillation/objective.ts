import type { DistillationObjective, DistillationPart, DistillationValue } from '../../../src/contracts/index.ts';
import { renormalised, withTail } from './buckets.ts';
import { divergenceOf } from './divergence.ts';

export interface DistillationParameters {
  readonly divergence: 'forward-kl' | 'reverse-kl' | 'jsd';
  /** Of `jsd`: share of the teacher in the mixture. */
  readonly beta: number;
  readonly temperature: number;
  readonly topTokens: number | null;
  /** What becomes of the tokens that are not among the top. */
  readonly rest: 'tail' | 'renormalise';
}

/**
 * Σ w D(teacher, student) / Σ w over the labelled tokens of a whole step, of softmaxes at the temperature. There is no
 * factor of temperature², as there is none in TRL 1.16 (`GKDTrainer`, `beta`, `temperature`; top tokens:
 * `ServerDistillationTrainer`, `add_tail`); Hinton et al. 2015, arXiv:1503.02531, multiply by it.
 */
export function distillationObjective(version: string, parameters: DistillationParameters): DistillationObjective {
  const { temperature, topTokens } = parameters;
  return {
    name: 'distillation',
    version,
    head: 'distribution',
    temperature,
    topTokens,
    evaluate: (part) => evaluate(part, parameters),
  };
}

const betas = { 'forward-kl': 0, 'reverse-kl': 1 } as const;

function evaluate(part: DistillationPart, parameters: DistillationParameters): DistillationValue {
  const { width, weights, totalWeight } = part;
  const [student, teacher] = [asFloats(part.student), asFloats(part.teacher)];
  const { divergence, topTokens, rest } = parameters;
  const beta = divergence === 'jsd' ? parameters.beta : betas[divergence];
  const bucketsOf = rest === 'tail' ? withTail : renormalised;
  const gradients = new Float32Array(student.length);
  const scale = 1 / Math.max(1e-12, totalWeight);
  let [loss, forward, entropy] = [0, 0, 0];
  for (let token = 0; token < weights.length; token++) {
    const share = (weights[token] ?? 0) * scale;
    const own = student.subarray(token * width, (token + 1) * width);
    const taught = teacher.subarray(token * width, (token + 1) * width);
    const [left, right] = topTokens === null ? [null, null] : [bucketsOf(own), bucketsOf(taught)];
    const [ours, theirs] = [left?.logProbabilities ?? own, right?.logProbabilities ?? taught];
    const { value, slopes } = divergenceOf(ours, theirs, beta);
    loss += share * value;
    const listed = left === null ? slopes : left.listed(slopes);
    for (let index = 0; index < width; index++) gradients[token * width + index] = share * (listed[index] as number);
    for (let index = 0; index < theirs.length; index++) {
      const log = theirs[index] as number;
      const probability = Math.exp(log);
      if (probability === 0) continue;
      entropy -= share * probability * log;
      forward += share * probability * (log - (ours[index] as number));
    }
  }
  return { loss, gradients, metrics: { forward_kl: forward, teacher_entropy: entropy } };
}

function asFloats(values: ArrayLike<number>): Float32Array | Float64Array {
  if (values instanceof Float32Array || values instanceof Float64Array) return values;
  return Float64Array.from(values);
}
