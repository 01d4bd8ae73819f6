import { type Finding, rowList } from './finding.ts';
import type { CheckInput } from './input.ts';

/**
 * What KTO needs of its rows: at least two examples a step, and weights with which the ratio of desirable to undesirable
 * examples lies in [1, 4/3]. Source: Ethayarajh et al. 2024 (arXiv:2402.01306), section 4.3.
 */
export function checkDesirable({ examples, objective, recipe, parameters = {} }: CheckInput): Finding[] {
  if (objective.sequences !== 'labelled') return [];
  return [...checkSteps({ objective, recipe }), ...checkBalance(examples, parameters)];
}

function checkSteps({ objective, recipe }: Pick<CheckInput, 'objective' | 'recipe'>): Finding[] {
  if (objective.mismatched !== true || recipe.batchSize > 1) return [];
  return [
    {
      code: 'CUPEL_TRAIN_KTO_BATCH',
      severity: 'error',
      message: 'batchSize is 1',
      where: 'parameters.batchSize',
    },
  ];
}

function checkBalance(examples: CheckInput['examples'], parameters: Readonly<Record<string, unknown>>): Finding[] {
  const desirable = examples.filter((example) => example.desirable === true);
  const undesirable = examples.length - desirable.length;
  const weight = (name: string): number => (typeof parameters[name] === 'number' ? parameters[name] : 1);
  const [up, down] = [weight('desirableWeight'), weight('undesirableWeight')];
  if (desirable.length === 0 || undesirable === 0) {
    return [
      {
        code: 'CUPEL_TRAIN_LABEL_BALANCE',
        severity: 'warning',
        message: `all ${examples.length} examples are ${undesirable === 0 ? 'desirable' : 'undesirable'}: nothing shows the opposite`,
        where: rowList(examples.map(({ id }) => id)),
      },
    ];
  }
  if (up === 0 || down === 0) {
    const silent = [...(up === 0 ? ['desirable'] : []), ...(down === 0 ? ['undesirable'] : [])];
    const count = (up === 0 ? desirable.length : 0) + (down === 0 ? undesirable : 0);
    return [
      {
        code: 'CUPEL_TRAIN_LABEL_BALANCE',
        severity: 'warning',
        message: `${silent.join(' and ')} examples have weight 0: ${count} of ${examples.length} teach nothing`,
        where: `parameters.${silent[0] ?? ''}Weight`,
      },
    ];
  }
  const ratio = (up * desirable.length) / (down * undesirable);
  if (ratio >= 1 - 1e-9 && ratio <= 4 / 3 + 1e-9) return [];
  const least = (down * undesirable) / desirable.length;
  return [
    {
      code: 'CUPEL_TRAIN_LABEL_BALANCE',
      severity: 'warning',
      message:
        `${desirable.length} desirable and ${undesirable} undesirable examples with weights ${up} and ${down} stand ` +
        `${ratio.toPrecision(3)} to 1; with undesirableWeight ${down} a desirableWeight from ${least.toPrecision(3)} to ` +
        `${((4 / 3) * least).toPrecision(3)} is usual`,
      where: 'parameters.desirableWeight',
    },
  ];
}
