import type { Trainer, TrainPlan } from '../contracts/index.ts';
import { checkAgainst, compileSchema } from '../kit/index.ts';
import type { TrainRecipe } from '../plugins/recipe.ts';
import type { BaseFacts } from './base-facts.ts';
import {
  adapterKind,
  defaultEpochs,
  defaultLearningRate,
  defaultTuning,
  withAdapterDefaults,
} from './recipe-defaults.ts';

/** One resolved setting and where it comes from. */
export interface Setting {
  readonly name: string;
  readonly value: unknown;
  /** `recipe`, `method` (the trainer's own default), or why it was chosen. */
  readonly from: string;
}

/** What a trainer is told, and why. */
export interface ResolvedSettings {
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly settings: readonly Setting[];
}

const recipeDefault = 'recipe default';

type Properties = Readonly<Record<string, { readonly default?: unknown }>>;

/**
 * Fills in what the recipe leaves open: by effort, by size and family of the base, else as the trainer says. Only what
 * the trainer takes is filled in; what is written is checked against the trainer's own schema.
 * @param trainers what computes, and the trainer of the method, which are one for native training
 * @throws CUPEL_FIELD_UNKNOWN, CUPEL_FIELD_INVALID with file:line
 */
export function resolveSettings(
  recipe: TrainRecipe,
  { trainer, method }: { readonly trainer: Trainer; readonly method: Trainer | null },
  facts: BaseFacts,
): ResolvedSettings {
  const properties = propertiesOf(trainer);
  // What a method wants is the method's to say, whoever computes it.
  const ownDefault = (name: string): unknown =>
    (method === null ? {} : propertiesOf(method))[name]?.default ?? properties[name]?.default;
  const handed = {
    ...(recipe.trainer === 'native' ? {} : { method: recipe.method }),
    ...(recipe.teacher === null ? {} : { teacher: recipe.teacher }),
  };
  const written: Record<string, unknown> = { ...handed, ...recipe.written };
  if (typeof written['tuning'] === 'string') written['tuning'] = { kind: written['tuning'] };
  const tuning = written['tuning'] as Readonly<Record<string, unknown>> | undefined;
  if (tuning !== undefined) written['tuning'] = withAdapterDefaults(adapterKind(tuning), recipe.effort);

  const takes = acceptor(trainer.options);
  const chosen = new Map<string, { readonly value: unknown; readonly from: string }>();
  const choose = (name: string, make: () => { readonly value: unknown; readonly reason: string } | null): void => {
    if (Object.hasOwn(written, name) || !Object.hasOwn(properties, name)) return;
    const made = make();
    if (made !== null && takes(name, made.value)) chosen.set(name, { value: made.value, from: made.reason });
  };
  choose('tuning', () => defaultTuning(recipe.effort, facts));
  const kind = written['tuning'] ?? chosen.get('tuning')?.value ?? ownDefault('tuning');
  choose('epochs', () => {
    const own = ownDefault('epochs');
    return typeof own === 'number' ? defaultEpochs(recipe.effort, own) : null;
  });
  choose('learningRate', () => {
    const own = ownDefault('learningRate');
    return typeof own === 'number' ? defaultLearningRate(recipe.effort, facts, kind, own) : null;
  });
  choose('schedule', () => ({ value: 'cosine', reason: recipeDefault }));
  choose('warmupSteps', () => ({ value: 0.05, reason: recipeDefault }));

  const parameters = { ...Object.fromEntries([...chosen].map(([name, { value }]) => [name, value])), ...written };
  checkAgainst(
    compileSchema(trainer.options, `options of trainer ${recipe.method}`),
    parameters,
    recipe.file,
    (path, member) => recipe.placeOf([...path, ...(member === undefined ? [] : [member])].join('.')),
  );
  const names = [...new Set([...Object.keys(properties), ...Object.keys(parameters)])];
  return {
    parameters,
    settings: ordered(
      names
        .map((name): Setting => {
          const made = chosen.get(name);
          if (made !== undefined) return { name, ...made };
          return Object.hasOwn(parameters, name)
            ? { name, value: parameters[name], from: 'recipe' }
            : { name, value: properties[name]?.default, from: 'method' };
        })
        .filter(({ value }) => value !== undefined),
    ),
  };
}

function propertiesOf({ options }: Pick<Trainer, 'options'>): Properties {
  return (options['properties'] ?? {}) as Properties;
}

/** The settings with one more that only the plan could tell. */
export function withSetting(resolved: ResolvedSettings, setting: Setting): ResolvedSettings {
  return {
    parameters: { ...resolved.parameters, [setting.name]: setting.value },
    settings: ordered([...resolved.settings.filter(({ name }) => name !== setting.name), setting]),
  };
}

const fewSteps = 40;

/**
 * What only the number of steps can tell, where the recipe says nothing: ten checkpoints over the training, not more
 * often than every tenth step, and no warmup of a short one: its first step, at rate 0, would be lost.
 */
export function withSteps(resolved: ResolvedSettings, trainer: Trainer, { steps }: TrainPlan): ResolvedSettings {
  const originOf = (name: string): string | undefined =>
    resolved.settings.find((setting) => setting.name === name)?.from;
  const short = steps < fewSteps && originOf('warmupSteps') === recipeDefault;
  const warmed = short
    ? withSetting(resolved, { name: 'warmupSteps', value: 0, from: `fewer than ${fewSteps} steps` })
    : resolved;
  const value = { everySteps: Math.max(10, Math.ceil(steps / 10)), keep: 2 };
  if (originOf('checkpoints') === 'recipe' || !acceptor(trainer.options)('checkpoints', value)) return warmed;
  return withSetting(warmed, { name: 'checkpoints', value, from: recipeDefault });
}

/** What is written, then what was chosen, then what is as ever. */
function ordered(settings: readonly Setting[]): readonly Setting[] {
  const rank = ({ from }: Setting): number => (from === 'recipe' ? 0 : from === 'method' ? 2 : 1);
  return [...settings].sort((a, b) => rank(a) - rank(b));
}

/** Whether a trainer takes a value for one of its parameters. */
function acceptor(options: Readonly<Record<string, unknown>>): (name: string, value: unknown) => boolean {
  const { required: _, ...loose } = options;
  const properties = propertiesOf({ options });
  let validate: ReturnType<typeof compileSchema> | undefined;
  return (name, value) => {
    if (!Object.hasOwn(properties, name)) return false;
    validate ??= compileSchema(loose, 'options of a trainer');
    return validate({ [name]: value });
  };
}
