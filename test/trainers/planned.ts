import type { Objective, Recipe, TrainJob, TrainServices } from '../../src/contracts/index.ts';
import { openRegistry } from '../../src/plugins/registry.ts';

const registry = await openRegistry();

/** What a trainer makes of parameters that a person wrote: its objective and its recipe. */
export async function planned(
  trainer: string,
  parameters: Readonly<Record<string, unknown>>,
  change: Partial<TrainJob> = {},
): Promise<{ objective: Objective; recipe: Recipe }> {
  const seen: { objective: Objective; recipe: Recipe }[] = [];
  const plan = { steps: 1, tokens: 1, labelledTokens: 1, memoryBytes: 1, seconds: null, parameters: 1 };
  const services = {
    plan: async (_, objective, recipe) => {
      seen.push({ objective: objective as Objective, recipe });
      return { ...plan, trainableParameters: 1 };
    },
  } as Pick<TrainServices, 'plan'> as TrainServices;
  const job: TrainJob = {
    id: 'job',
    base: null,
    model: null,
    openLearner: null,
    openTeacher: null,
    services,
    data: [],
    replay: null,
    parameters,
    seed: 1,
    output: '/nowhere',
    work: null,
    resume: false,
    validation: null,
    ...change,
  };
  await (await registry.load('trainer', trainer)).plan(job);
  return seen[0] as { objective: Objective; recipe: Recipe };
}
