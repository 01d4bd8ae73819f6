/** Which divergence, between the two KLs: 0 is forward, 1 reverse, between them the generalised Jensen-Shannon. */
export interface Divergence {
  readonly value: number;
  /** d value / d each log-probability of the student, taken as free numbers. */
  readonly slopes: Float64Array;
}

/**
 * Divergence of two distributions over the same events, of natural-log probabilities.
 * β = 0: KL(teacher ‖ student) = Σ t (log t − log s), forward: the student covers all that the teacher does.
 * β = 1: KL(student ‖ teacher) = Σ s (log s − log t), reverse: it keeps to what the teacher finds likely.
 * Else β KL(teacher ‖ M) + (1 − β) KL(student ‖ M) with M = β t + (1 − β) s (Agarwal et al. 2024, arXiv:2306.13649,
 * eq. 1; TRL 1.16 `GKDTrainer.generalized_jsd_loss`). An event of probability 0 adds nothing.
 */
export function divergenceOf(student: ArrayLike<number>, teacher: ArrayLike<number>, beta: number): Divergence {
  const slopes = new Float64Array(student.length);
  let value = 0;
  for (let event = 0; event < slopes.length; event++) {
    const [own, taught] = [student[event] as number, teacher[event] as number];
    const [s, t] = [Math.exp(own), Math.exp(taught)];
    if (beta === 0) {
      if (t > 0) value += t * (taught - own);
      slopes[event] = -t;
    } else if (beta === 1) {
      if (s > 0) value += s * (own - taught);
      slopes[event] = s > 0 ? s * (own - taught + 1) : 0;
    } else {
      const middle = Math.log(beta * t + (1 - beta) * s);
      if (t > 0) value += beta * t * (taught - middle);
      if (s > 0) value += (1 - beta) * s * (own - middle);
      slopes[event] = s > 0 ? (1 - beta) * s * (own - middle) : 0;
    }
  }
  return { value, slopes };
}
