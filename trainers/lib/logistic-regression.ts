import type { SparseVector } from './tfidf.ts';

export interface LogisticModel {
  /** [feature × classes + class] */
  readonly weights: Float64Array;
  readonly bias: Float64Array;
  /** Objective before each iteration. */
  readonly losses: readonly number[];
}

/**
 * Multinomial logistic regression, mean cross-entropy + |W|² / (2 C n), by Nesterov's accelerated gradient from zero with
 * a fixed step: rows of length 1 make the gradient Lipschitz with constant ≤ 1 + 1 / (C n). Deterministic.
 */
export function fitLogistic(
  rows: readonly SparseVector[],
  labels: readonly number[],
  shape: { readonly features: number; readonly classes: number },
  options: { readonly inverseRegularisation: number; readonly iterations: number },
): LogisticModel {
  const { features, classes } = shape;
  const size = features * classes;
  const decay = 1 / (options.inverseRegularisation * rows.length);
  const stepSize = 1 / (1 + decay);
  // The bias is one more feature, without decay, at the end.
  let current = new Float64Array(size + classes);
  let ahead = new Float64Array(size + classes);
  const losses: number[] = [];
  let momentum = 1;
  for (let iteration = 0; iteration < options.iterations; iteration++) {
    const { loss, gradient } = evaluate(rows, labels, ahead, size, classes, decay);
    losses.push(loss);
    const next = ahead.map((weight, index) => weight - stepSize * (gradient[index] ?? 0));
    const nextMomentum = (1 + Math.sqrt(1 + 4 * momentum * momentum)) / 2;
    const pull = (momentum - 1) / nextMomentum;
    const before = current;
    ahead = next.map((weight, index) => weight + pull * (weight - (before[index] ?? 0)));
    current = next;
    momentum = nextMomentum;
  }
  return { weights: current.slice(0, size), bias: current.slice(size), losses };
}

function evaluate(
  rows: readonly SparseVector[],
  labels: readonly number[],
  parameters: Float64Array,
  size: number,
  classes: number,
  decay: number,
): { loss: number; gradient: Float64Array } {
  const gradient = new Float64Array(parameters.length);
  let loss = 0;
  for (let index = 0; index < size; index++) {
    const weight = parameters[index] ?? 0;
    loss += (decay / 2) * weight * weight;
    gradient[index] = decay * weight;
  }
  const scores = new Float64Array(classes);
  for (const [row, { indices, values }] of rows.entries()) {
    for (let k = 0; k < classes; k++) scores[k] = parameters[size + k] ?? 0;
    for (let entry = 0; entry < indices.length; entry++) {
      const at = (indices[entry] ?? 0) * classes;
      const value = values[entry] ?? 0;
      for (let k = 0; k < classes; k++) scores[k] = (scores[k] ?? 0) + value * (parameters[at + k] ?? 0);
    }
    const top = Math.max(...scores);
    let total = 0;
    for (let k = 0; k < classes; k++) total += Math.exp((scores[k] ?? 0) - top);
    loss += (top + Math.log(total) - (scores[labels[row] ?? 0] ?? 0)) / rows.length;
    for (let k = 0; k < classes; k++) {
      const slope = (Math.exp((scores[k] ?? 0) - top) / total - (labels[row] === k ? 1 : 0)) / rows.length;
      scores[k] = slope;
      gradient[size + k] = (gradient[size + k] ?? 0) + slope;
    }
    for (let entry = 0; entry < indices.length; entry++) {
      const at = (indices[entry] ?? 0) * classes;
      const value = values[entry] ?? 0;
      for (let k = 0; k < classes; k++) gradient[at + k] = (gradient[at + k] ?? 0) + value * (scores[k] ?? 0);
    }
  }
  return { loss, gradient };
}
