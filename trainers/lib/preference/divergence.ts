import { boundedExp, sigmoid, softplus } from '../numeric.ts';

export type Divergence = 'reverse_kl' | 'forward_kl' | 'js_divergence' | 'alpha_divergence';

/**
 * The score of an answer under the f-divergence that ties the policy to its reference: f′(ratio) without constants that
 * cancel in a margin, with its slope. x is log(policy / reference).
 * reverse KL: x; forward KL: −e^(−x); Jensen-Shannon: log σ(x); α: e^((α − 1) x) / (α − 1), which is x at α = 1.
 * Source: Wang et al. 2023 (f-DPO), arXiv:2309.16240. TRL `f_divergence_type`, `f_alpha_divergence_coef`.
 */
export function divergenceScore(
  x: number,
  divergence: Divergence,
  alpha: number,
): { readonly value: number; readonly slope: number } {
  if (divergence === 'forward_kl') {
    const { value, slope } = boundedExp(-x);
    return { value: -value, slope };
  }
  if (divergence === 'js_divergence') return { value: -softplus(-x), slope: sigmoid(-x) };
  if (divergence === 'alpha_divergence' && alpha !== 1) {
    const { value, slope } = boundedExp((alpha - 1) * x);
    return { value: value / (alpha - 1), slope };
  }
  return { value: x, slope: 1 };
}
