import type { ObjectivePart, ObjectiveValue } from '../../../src/contracts/index.ts';
import { sigmoid, softplus } from '../numeric.ts';

export interface BradleyTerryParameters {
  readonly margin: number;
  readonly centering: number;
}

/** Mean over pairs of −log σ(r(chosen) − r(rejected) − margin) + centering × (r(chosen) + r(rejected))². */
export function bradleyTerry(part: ObjectivePart, { margin, centering }: BradleyTerryParameters): ObjectiveValue {
  const { examples, totals } = part;
  let loss = 0;
  const metrics = { reward_margin: 0, reward_accuracy: 0, reward_chosen: 0, reward_rejected: 0 };
  const gradients = examples.map(({ policy }) => {
    const [chosen, rejected] = [policy[0]?.[0] ?? 0, policy[1]?.[0] ?? 0];
    const lead = chosen - rejected - margin;
    const sum = chosen + rejected;
    loss += (softplus(-lead) + centering * sum * sum) / totals.examples;
    metrics.reward_margin += (chosen - rejected) / totals.examples;
    metrics.reward_accuracy += (chosen > rejected ? 1 : 0) / totals.examples;
    metrics.reward_chosen += chosen / totals.examples;
    metrics.reward_rejected += rejected / totals.examples;
    const centre = 2 * centering * sum;
    const pull = sigmoid(-lead);
    return [[(centre - pull) / totals.examples], [(centre + pull) / totals.examples]];
  });
  return { loss, gradients, replayGradients: [], metrics };
}
