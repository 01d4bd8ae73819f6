import type { Case, Score, ScoredOutput, Scores, Suite, Validator } from '../contracts/index.ts';
import { runErrors } from './errors.ts';

/** Finds a validator by id; throws a coded error for an id that it does not know. */
export type ValidatorLookup = (id: string) => Validator | Promise<Validator>;

export type ValidatorTable = ReadonlyMap<string, Validator>;

/** Loads every validator that the suite or one of the cases uses, before anything runs. */
export async function resolveValidators(
  suite: Suite,
  cases: readonly Case[],
  lookup: ValidatorLookup,
): Promise<ValidatorTable> {
  const ids = new Set([...suite.validators, ...cases.flatMap((item) => item.validators ?? [])].map(({ use }) => use));
  const table = new Map<string, Validator>();
  for (const id of [...ids].sort()) table.set(id, await lookup(id));
  return table;
}

/** `id@version` of each, sorted: part of the identity of a run. */
export function validatorNames(table: ValidatorTable): string[] {
  return [...table].map(([id, { version }]) => `${id}@${version}`).sort();
}

/**
 * Scores an output by the validators of the suite, then those of the case.
 * @throws CUPEL_RUN_VALIDATOR_FAILED when one throws, emits a metric that it did not announce or another has emitted,
 *   or a value that is neither null nor a finite number.
 */
export async function scoreOutput(
  suite: Suite,
  item: Case,
  output: ScoredOutput,
  table: ValidatorTable,
): Promise<Scores> {
  const scores = new Map<string, Score>();
  for (const { use, with: options } of [...suite.validators, ...(item.validators ?? [])]) {
    const fail = (what: string): Error =>
      runErrors.CUPEL_RUN_VALIDATOR_FAILED({
        message: `validator ${use}: ${what}`.slice(0, 300),
        where: `${suite.id}: case ${item.id}`,
      });
    const validator = table.get(use);
    if (validator === undefined) throw fail('it was not loaded');
    let emitted: Scores;
    try {
      emitted = await validator.validate({ case: item, output, with: options });
    } catch (cause) {
      throw fail(cause instanceof Error ? cause.message : String(cause));
    }
    for (const [metric, score] of Object.entries(emitted)) {
      if (!validator.metrics.includes(metric) && !validator.metrics.includes('*'))
        throw fail(`it emitted "${metric}", which it does not announce`);
      if (scores.has(metric)) throw fail(`"${metric}" was emitted before`);
      if (score.value !== null && !Number.isFinite(score.value)) throw fail(`"${metric}" is ${String(score.value)}`);
      scores.set(metric, score);
    }
  }
  return Object.fromEntries(scores);
}
