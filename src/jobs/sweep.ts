import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Run } from '../contracts/index.ts';
import { isCupelError, writeFileAtomic } from '../kit/index.ts';
import { loadPolicy } from '../gate/index.ts';
import type { TrainRecipe } from '../plugins/recipe.ts';
import { jobErrors } from './errors.ts';
import { checkpointDigest, type CheckpointInfo, type Project } from './project.ts';
import type { RecipeInputs } from './recipe-inputs.ts';
import { choose, notesOf, typicalMember } from './sweep-choice.ts';
import { type SweepMember, trainMember } from './sweep-member.ts';
import { type PlannedSweep, prepareSweep } from './sweep-plan.ts';
import { type ComparedCandidate, compareSeeds, type SeedRuns } from './sweep-statistics.ts';
import { replaceFolder } from './train.ts';
import type { RecipeOptions } from './train-into.ts';
import { runValidation, snapshotInfo, type ValidationSuite } from './train-validation.ts';

export interface SweepResult {
  readonly checkpoint: string;
  readonly digest: string;
  readonly path: string;
  readonly metric: string;
  readonly rate: boolean;
  readonly cases: number;
  readonly level: number;
  /** Name of what the others are compared with. */
  readonly reference: string;
  readonly seeds: readonly number[];
  readonly candidates: readonly ComparedCandidate[];
  readonly chosen: { readonly candidate: string; readonly seed: number; readonly reason: string };
  readonly notes: readonly string[];
}

export interface SweepOptions extends Omit<RecipeOptions, 'onPlan'> {
  onPlan?(plan: PlannedSweep): void;
}

/**
 * Trains each candidate with each seed, runs the validation suite on it, and compares the candidates with the recipe as
 * it is written (a sweep over seeds alone: with the base). Finished members are kept and never trained twice; the chosen
 * one becomes `<store>/candidates/<output>`.
 */
export async function runSweep(project: Project, recipe: TrainRecipe, options: SweepOptions): Promise<SweepResult> {
  return trainAndCompare(project, recipe, options).catch((error: unknown) => {
    if (!project.signal.aborted || (isCupelError(error) && error.code === 'CUPEL_RECIPE_INTERRUPTED')) throw error;
    throw jobErrors.CUPEL_RECIPE_INTERRUPTED({
      message: `sweep "${recipe.output}" was stopped`,
      where: project.at('sweeps', recipe.output),
      remedy: `Finished members are kept. Go on with: ${options.command} --resume`,
      cause: error,
    });
  });
}

async function trainAndCompare(project: Project, recipe: TrainRecipe, options: SweepOptions): Promise<SweepResult> {
  const { planned, candidates, inputs, chosen } = await prepareSweep(project, recipe);
  options.onPlan?.(planned);
  // A policy that can not be read is told before anything is trained.
  const alpha = await alphaOf(project);
  const folder = project.at('sweeps', recipe.output);
  const baseRun =
    inputs.base === null || candidates.length > 1 ? null : await runBase(project, inputs.base, chosen, folder);
  const trained = new Map<string, SweepMember[]>();
  for (const [index, candidate] of candidates.entries()) {
    const members: SweepMember[] = [];
    for (const seed of planned.seeds) {
      const place = join(folder, candidate.folder, `seed-${seed}`);
      const label = `${candidate.name}, seed ${seed} (${index * planned.seeds.length + members.length + 1}/${candidates.length * planned.seeds.length})`;
      project.progress.note(label);
      const info = await trainMember(project, candidate, seed, inputs, place, options);
      const run = await runValidation(project, chosen, info, join(folder, 'validation'), {
        progress: project.progress,
      });
      members.push({ seed, info, run });
    }
    trained.set(candidate.name, members);
  }
  const runsOf = (name: string): SeedRuns => ({
    name,
    runs: (trained.get(name) ?? []).map(({ run }) => run),
    seeded: true,
  });
  const [first, ...others] = candidates.map(({ name }) => runsOf(name)) as [SeedRuns, ...SeedRuns[]];
  const base: SeedRuns | null =
    baseRun === null ? null : { name: inputs.base?.id ?? 'base', runs: [baseRun], seeded: false };
  const reference = others.length > 0 ? first : base;
  const compared = compareSeeds(chosen.suite.id, chosen.metric, reference, others.length > 0 ? others : [first], {
    alpha,
    resamples: 2000,
    seed: project.config.seed,
  });
  const pick = choose(compared, first.name, reference?.name ?? null, chosen.metric.direction);
  const member = typicalMember(trained.get(pick.candidate) ?? [], compared, pick.candidate);
  const reason = `${pick.reason} Of its seeds ${member.seed} is kept, whose value is nearest to their mean: what the recipe gives, not what luck gave.`;
  const { digest, path } = await keep(project, recipe, inputs, member, reason);
  const result: SweepResult = {
    checkpoint: recipe.output,
    digest,
    path,
    metric: chosen.path,
    rate: chosen.metric.kind === 'rate',
    cases: chosen.suite.splits['validation']?.length ?? 0,
    level: 1 - alpha,
    reference: reference?.name ?? 'nothing',
    seeds: planned.seeds,
    candidates: compared,
    chosen: {
      ...pick,
      seed: member.seed,
      reason,
    },
    notes: notesOf(recipe, [...trained.values()], planned.seeds.length),
  };
  await writeFileAtomic(join(folder, 'sweep.json'), `${JSON.stringify(result, null, 2)}\n`);
  return result;
}

function runBase(project: Project, base: CheckpointInfo, chosen: ValidationSuite, folder: string): Promise<Run> {
  return runValidation(project, chosen, base, join(folder, 'validation'), { progress: project.progress });
}

/** As in the project's policy; 0.05 where there is none. */
async function alphaOf(project: Project): Promise<number> {
  return project.config.policy === null ? 0.05 : (await loadPolicy(project.config.policy)).alpha;
}

async function keep(
  project: Project,
  recipe: TrainRecipe,
  inputs: RecipeInputs,
  member: SweepMember,
  choice: string,
): Promise<{ readonly digest: string; readonly path: string }> {
  const folder = project.at('candidates', recipe.output);
  const source = member.info.adapter ?? member.info.path;
  await rm(`${folder}.new`, { recursive: true, force: true });
  await cp(source, `${folder}.new`, { recursive: true });
  await replaceFolder(`${folder}.new`, folder);
  const { role, description, training } = member.info;
  const info: CheckpointInfo = {
    ...snapshotInfo(recipe.output, folder, inputs.base),
    role,
    description,
    training: training === null ? null : { ...training, choice },
  };
  await writeFileAtomic(project.at('candidates', `${recipe.output}.json`), `${JSON.stringify(info, null, 2)}\n`);
  return { digest: await checkpointDigest(info), path: folder };
}
