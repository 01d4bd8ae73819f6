import type { ExportedTraining, Recipe } from '../../../src/contracts/index.ts';
import { readParameters, type RecipeParameters, recipeOf } from '../recipe.ts';
import { exportErrors } from './errors.ts';

/** A training as an exporter looks at it. */
export interface ExportSettings {
  readonly recipe: Recipe;
  /** The method's own parameters, with its defaults. */
  readonly own: Readonly<Record<string, unknown>>;
  readonly maxTokens: number;
  /** @throws CUPEL_EXPORT_CANNOT with the name of the setting where the condition holds */
  readonly refuse: (condition: boolean, setting: string, why: string) => void;
}

/**
 * Settings with defaults filled in. What none of the programs can be told is refused here.
 * @param program name for messages
 */
export function exportSettings(
  training: ExportedTraining,
  program: string,
  methods: readonly string[],
): ExportSettings {
  const refuse = (condition: boolean, setting: string, why: string): void => {
    if (condition) throw exportErrors.CUPEL_EXPORT_CANNOT({ message: `${program}: ${why}`, where: setting });
  };
  refuse(
    !methods.includes(training.method),
    'method',
    `"${training.method}" is not exported; ${methods.join(', ')} ${methods.length === 1 ? 'is' : 'are'}`,
  );
  const own = readParameters<RecipeParameters & Record<string, unknown>>(
    training.options,
    training.parameters,
    `parameters of ${training.id}`,
  );
  const recipe = recipeOf(own);
  refuse(training.hasReplay, 'replay', 'rows can not be mixed into every step');
  refuse(training.hasValidation, 'validation', 'a suite of this project can not be run there');
  refuse(recipe.tuning.kind === 'qlora', 'tuning', 'a base in q8_0 or q4_0 is not what it trains over');
  refuse(recipe.checkpoints?.everyTokens !== undefined, 'checkpoints.everyTokens', 'checkpoints are counted in steps');
  refuse(recipe.overlong === 'left', 'overlong', 'the start of a prompt can not be cut');
  refuse(recipe.overlong === 'window', 'overlong', 'documents are cut in another way');
  return { recipe, own, maxTokens: recipe.maxTokens ?? training.contextLength, refuse };
}

/** The schedule by the names and arguments of transformers.get_scheduler, which the recipe's arithmetic follows. */
export function huggingFaceSchedule(
  schedule: Recipe['schedule'],
  hasWarmup: boolean,
): { readonly name: string; readonly arguments: Readonly<Record<string, number | string>> | null } {
  const rule = typeof schedule === 'string' ? { kind: schedule } : schedule;
  const given = (values: Readonly<Record<string, number | string | undefined>>): Record<string, number | string> =>
    Object.fromEntries(
      Object.entries(values).filter((entry): entry is [string, number | string] => entry[1] !== undefined),
    );
  switch (rule.kind) {
    case 'constant':
      return { name: hasWarmup ? 'constant_with_warmup' : 'constant', arguments: null };
    case 'linear':
      return { name: 'linear', arguments: null };
    case 'cosine': {
      const { cycles, minimumRatio } = rule as Extract<Recipe['schedule'], { kind: 'cosine' }>;
      if (minimumRatio === undefined || minimumRatio === 0) {
        return { name: 'cosine', arguments: cycles === undefined ? null : { num_cycles: cycles } };
      }
      return { name: 'cosine_with_min_lr', arguments: given({ num_cycles: cycles, min_lr_rate: minimumRatio }) };
    }
    case 'cosine-restarts':
      return { name: 'cosine_with_restarts', arguments: given({ num_cycles: rule.cycles }) };
    case 'polynomial':
      return { name: 'polynomial', arguments: given({ power: rule.power, lr_end: rule.end }) };
    case 'inverse-sqrt':
      return { name: 'inverse_sqrt', arguments: given({ timescale: rule.timescale }) };
    case 'wsd':
      return {
        name: 'warmup_stable_decay',
        arguments: given({
          num_decay_steps: rule.decaySteps,
          num_stable_steps: rule.stableSteps,
          decay_type: rule.decay === '1-sqrt' ? '1-sqrt' : rule.decay,
          num_cycles: rule.cycles,
          min_lr_ratio: rule.minimumRatio,
        }),
      };
  }
}

/** Warmup in whole steps, as the recipe counts a share. */
export function warmupSteps(recipe: Recipe, steps: number): number {
  return recipe.warmupSteps < 1 ? Math.ceil(recipe.warmupSteps * steps) : recipe.warmupSteps;
}

/** The note that stands on top of every file that can hold one: what it is, and that nobody ran it. */
export function notice(program: string, readFrom: string, training: ExportedTraining, more: readonly string[]): string {
  return [
    `Training "${training.id}" (${training.method}) for ${program}.`,
    'Written, not run: no equal result is claimed. Fields as documented in',
    `${readFrom}.`,
    ...more,
  ]
    .map((line) => `# ${line}\n`)
    .join('');
}
