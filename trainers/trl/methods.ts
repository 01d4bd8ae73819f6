import { trlErrors } from './errors.ts';

/** What a method of TRL reads, by this project's names and TRL's. */
export interface Method {
  readonly sequences: 'answer' | 'pair' | 'labelled';
  /** TRL's config fields by parameter; null: not a field of its own. */
  readonly fields: Readonly<Record<string, string | null>>;
  /** As the native trainer of that name has them. */
  readonly defaults: Readonly<Record<string, unknown>>;
  readonly losses: readonly string[];
  /** Whether a second copy of the weights is held as the reference. */
  readonly reference: boolean;
  /** TRL's fields that this method fixes. */
  readonly fixed?: Readonly<Record<string, unknown>>;
}

const dpoLosses = [
  'sigmoid',
  'hinge',
  'ipo',
  'exo_pair',
  'nca_pair',
  'robust',
  'bco_pair',
  'sppo_hard',
  'aot',
  'aot_unpaired',
  'apo_zero',
  'apo_down',
  'discopop',
  'sft',
  'sigmoid_norm',
] as const;

/**
 * Methods of TRL 1.16 by the names of the native trainers, with their parameters and defaults, so that one recipe serves
 * both. The first three are in TRL's core, the others in `trl.experimental`; SimPO and AlphaPO are losses of its CPO.
 */
export const methods: Readonly<Record<string, Method>> = {
  sft: {
    sequences: 'answer',
    fields: { loss: 'loss_type' },
    defaults: { loss: 'nll' },
    losses: ['nll', 'dft'],
    reference: false,
  },
  dpo: {
    sequences: 'pair',
    fields: {
      beta: 'beta',
      loss: 'loss_type',
      lossWeights: 'loss_weights',
      // Written into loss_type and loss_weights, as TRL's loss "sft".
      nllWeight: null,
      labelSmoothing: 'label_smoothing',
      ldAlpha: 'ld_alpha',
      divergence: 'f_divergence_type',
      divergenceAlpha: 'f_alpha_divergence_coef',
      discopopTau: 'discopop_tau',
    },
    defaults: { beta: 0.1, loss: 'sigmoid', nllWeight: 1, labelSmoothing: 0, divergence: 'reverse_kl' },
    losses: dpoLosses,
    reference: true,
  },
  kto: {
    sequences: 'labelled',
    fields: {
      beta: 'beta',
      loss: 'loss_type',
      desirableWeight: 'desirable_weight',
      undesirableWeight: 'undesirable_weight',
    },
    defaults: { beta: 0.1, loss: 'kto', desirableWeight: 1, undesirableWeight: 1 },
    losses: ['kto', 'apo_zero_unpaired'],
    reference: true,
  },
  orpo: { sequences: 'pair', fields: { beta: 'beta' }, defaults: { beta: 0.1 }, losses: [], reference: false },
  cpo: {
    sequences: 'pair',
    fields: { beta: 'beta', loss: 'loss_type', nllWeight: 'cpo_alpha', labelSmoothing: 'label_smoothing' },
    defaults: { beta: 0.1, loss: 'sigmoid', nllWeight: 1, labelSmoothing: 0 },
    losses: ['sigmoid', 'hinge', 'ipo'],
    reference: false,
  },
  simpo: {
    sequences: 'pair',
    fields: { beta: 'beta', gamma: 'simpo_gamma', labelSmoothing: 'label_smoothing' },
    defaults: { beta: 2, gamma: 1, labelSmoothing: 0 },
    losses: [],
    reference: false,
    // TRL's default for cpo_alpha adds a likelihood term that SimPO does not have.
    fixed: { loss_type: 'simpo', cpo_alpha: 0 },
  },
  'cpo-simpo': {
    sequences: 'pair',
    fields: { beta: 'beta', gamma: 'simpo_gamma', nllWeight: 'cpo_alpha', labelSmoothing: 'label_smoothing' },
    defaults: { beta: 2, gamma: 1, nllWeight: 1, labelSmoothing: 0 },
    losses: [],
    reference: false,
    fixed: { loss_type: 'simpo' },
  },
  alphapo: {
    sequences: 'pair',
    fields: { beta: 'beta', gamma: 'simpo_gamma', alpha: 'alpha', labelSmoothing: 'label_smoothing' },
    defaults: { beta: 2, gamma: 0.5, alpha: 0.25, labelSmoothing: 0 },
    losses: [],
    reference: false,
    fixed: { loss_type: 'alphapo', cpo_alpha: 0 },
  },
};

/** Parameters of one method or another, as JSON Schema properties. What is left out has the native trainer's default. */
export const methodProperties = {
  beta: { type: 'number', exclusiveMinimum: 0, maximum: 100, description: 'Strength of the preference term.' },
  loss: {
    anyOf: [
      { type: 'string' },
      { type: 'array', minItems: 1, maxItems: 8, uniqueItems: true, items: { type: 'string' } },
    ],
    description: 'A loss of the method; of dpo also a list of them.',
  },
  lossWeights: {
    type: ['array', 'null'],
    minItems: 1,
    maxItems: 8,
    items: { type: 'number', exclusiveMinimum: 0, maximum: 100 },
    description: 'One a loss of dpo; null: 1 each.',
  },
  nllWeight: {
    type: 'number',
    minimum: 0,
    maximum: 100,
    description: 'Weight of the mean token −log p of the chosen answers: dpo, cpo, cpo-simpo.',
  },
  labelSmoothing: {
    type: 'number',
    minimum: 0,
    exclusiveMaximum: 0.5,
    description:
      'Refused where TRL would ignore it: dpo reads it in robust, exo_pair and aot alone, cpo in sigmoid alone.',
  },
  ldAlpha: { type: ['number', 'null'], minimum: 0, maximum: 1, description: 'LD-DPO.' },
  divergence: {
    enum: ['reverse_kl', 'forward_kl', 'js_divergence', 'alpha_divergence'],
    description: 'What ties the policy of dpo to its reference.',
  },
  divergenceAlpha: { type: ['number', 'null'], description: 'Of the alpha divergence.' },
  discopopTau: { type: ['number', 'null'], exclusiveMinimum: 0, description: 'Of the loss discopop.' },
  desirableWeight: { type: 'number', minimum: 0, maximum: 100, description: 'KTO.' },
  undesirableWeight: { type: 'number', minimum: 0, maximum: 100, description: 'KTO.' },
  gamma: { type: 'number', minimum: 0, maximum: 100, description: 'Target margin: simpo, cpo-simpo, alphapo.' },
  alpha: { type: 'number', description: 'Of alphapo.' },
} as const;

const smoothed = new Set(['robust', 'exo_pair', 'aot', 'aot_unpaired']);
/** Losses that look at more than one pair at once, so that dividing a step changes them. */
const coupled = new Set(['sft', 'aot', 'aot_unpaired', 'bco_pair']);

/**
 * TRL's config fields for the parameters of a method, its defaults filled in.
 * @throws CUPEL_TRL_CANNOT naming a parameter that the method does not read
 */
export function methodOptions(name: string, parameters: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const method = methods[name] as Method;
  const stray = Object.keys(methodProperties).find((key) => parameters[key] !== undefined && !(key in method.fields));
  if (stray !== undefined) throw refused(`${name} of TRL reads no ${stray}`, stray);
  const given = { ...method.defaults, ...parameters };
  const options: Record<string, unknown> = { ...method.fixed };
  for (const [key, field] of Object.entries(method.fields)) {
    const value = given[key];
    if (field !== null && value !== undefined && value !== null) options[field] = value;
  }
  const losses = lossesOf(name, given);
  const stranger = losses.find((loss) => !method.losses.includes(loss));
  if (stranger !== undefined) {
    throw refused(`${name} of TRL knows no loss "${stranger}"; it knows ${method.losses.join(', ')}`, 'loss');
  }
  const smoothing = given['labelSmoothing'];
  if (typeof smoothing === 'number' && smoothing > 0 && ignoresSmoothing(name, losses)) {
    throw refused(`TRL 1.16 ignores labelSmoothing with the loss ${losses.join(' + ')}`, 'labelSmoothing');
  }
  return name === 'dpo' ? { ...options, ...dpoLossOptions(given, losses) } : options;
}

/**
 * What of a step's value depends on how it is divided among processes and micro-batches; null: nothing, the step has one
 * value.
 */
export function dependsOnDivision(name: string, parameters: Readonly<Record<string, unknown>>): string | null {
  const given: Readonly<Record<string, unknown>> = { ...methods[name]?.defaults, ...parameters };
  if (name === 'orpo' || (name !== 'sft' && Number(given['nllWeight'] ?? 0) > 0)) {
    return `the likelihood term of ${name} is a mean over the tokens of each part`;
  }
  const loss = name === 'dpo' ? lossesOf(name, given).find((one) => coupled.has(one)) : undefined;
  return loss === undefined ? null : `the loss ${loss} of dpo is computed over each part`;
}

function dpoLossOptions(given: Readonly<Record<string, unknown>>, losses: readonly string[]): Record<string, unknown> {
  const likelihood = given['nllWeight'] as number;
  const weights = (given['lossWeights'] as readonly number[] | null | undefined) ?? losses.map(() => 1);
  if (weights.length !== losses.length) {
    throw refused(`${weights.length} lossWeights stand beside ${losses.length} losses`, 'lossWeights');
  }
  if (likelihood === 0) return { loss_type: losses, loss_weights: weights };
  if (losses.includes('sft')) throw refused('beside the loss "sft" the chosen answers would count twice', 'nllWeight');
  return { loss_type: [...losses, 'sft'], loss_weights: [...weights, likelihood] };
}

function lossesOf(name: string, given: Readonly<Record<string, unknown>>): readonly string[] {
  const loss = given['loss'];
  if (typeof loss === 'string') return [loss];
  if (!Array.isArray(loss)) return [];
  if (name !== 'dpo') throw refused(`${name} of TRL takes one loss`, 'loss');
  return loss as readonly string[];
}

function ignoresSmoothing(name: string, losses: readonly string[]): boolean {
  if (name === 'dpo') return !losses.every((loss) => smoothed.has(loss));
  return name === 'cpo' && losses.some((loss) => loss !== 'sigmoid');
}

function refused(message: string, where: string): Error {
  return trlErrors.CUPEL_TRL_CANNOT({ message, where: `parameters.${where}` });
}
