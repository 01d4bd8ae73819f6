/** A distribution over K listed tokens, made whole. */
export interface Buckets {
  readonly logProbabilities: Float64Array;
  /** d loss / d each listed log-probability, from the slopes of the buckets. */
  listed(slopes: Float64Array): Float64Array;
}

/** Keeps the rest away from probability 0: the largest log of the listed sum (TRL 1.16, server distillation). */
const fullest = -1e-7;

/** The listed tokens and one event for all others: log(1 − Σ p). */
export function withTail(listed: ArrayLike<number>): Buckets {
  const count = listed.length;
  const logProbabilities = new Float64Array(count + 1);
  logProbabilities.set(listed);
  const sum = logSumExp(listed);
  const held = Math.min(sum, fullest);
  logProbabilities[count] = Math.log(-Math.expm1(held));
  return {
    logProbabilities,
    listed: (slopes) => {
      // d log(1 − S) / d log p = −p / (1 − S); where S is held back it does not move.
      const tail = sum < fullest ? -(slopes[count] as number) / -Math.expm1(sum) : 0;
      return slopes.subarray(0, count).map((slope, index) => slope + tail * Math.exp(listed[index] as number));
    },
  };
}

/** The listed tokens alone, divided by their sum. */
export function renormalised(listed: ArrayLike<number>): Buckets {
  const sum = logSumExp(listed);
  const logProbabilities = Float64Array.from(listed, (value) => value - sum);
  return {
    logProbabilities,
    listed: (slopes) => {
      const total = slopes.reduce((all, slope) => all + slope, 0);
      return slopes.map((slope, index) => slope - total * Math.exp(logProbabilities[index] as number));
    },
  };
}

function logSumExp(values: ArrayLike<number>): number {
  let top = -Infinity;
  for (let index = 0; index < values.length; index++) top = Math.max(top, values[index] as number);
  let total = 0;
  for (let index = 0; index < values.length; index++) total += Math.exp((values[index] as number) - top);
  return top + Math.log(total);
}
