import type { Case, ScoredOutput, Suite, Validator } from '../contracts/index.ts';
import { compileSchema, nearest } from '../kit/index.ts';

/** Something to mend in a suite. `error`: it measures wrongly or not at all; `warning`: it can be meant. */
export interface SuiteProblem {
  readonly severity: 'error' | 'warning';
  /** suite, validator, metric or case. */
  readonly where: string;
  readonly message: string;
}

export interface SuiteCheckServices {
  /** A validator by id; fails with a coded error where there is none. */
  readonly validator: (id: string) => Promise<Validator>;
  /** Plays a sample output, one assistant turn a line, as an episode. Without it, samples of episodes are not run. */
  readonly play?: (suite: Suite, item: Case, script: string) => Promise<ScoredOutput>;
}

export interface SuiteCheck {
  readonly problems: readonly SuiteProblem[];
  readonly cases: number;
  /** Sample outputs that were scored. */
  readonly examples: number;
}

/**
 * Checks a loaded suite without a model: options of validators against their schemas, every metric emitted by somebody,
 * sample outputs (`pass` must earn the best value of every rate, `fail` must lose on one), near-duplicates.
 */
export async function checkSuite(suite: Suite, services: SuiteCheckServices): Promise<SuiteCheck> {
  const problems: SuiteProblem[] = [];
  const cases = Object.entries(suite.splits).flatMap(([split, items]) =>
    items.map((item) => ({ item, where: `${suite.id}/${split}/${item.id}` })),
  );
  const validators = await loadValidators(
    suite,
    cases.map(({ item }) => item),
    services,
  );

  for (const { use, with: options } of suite.validators)
    checkOptions(validators, use, options, `${suite.id}: validators`, problems);
  for (const { item, where } of cases)
    for (const use of item.validators ?? []) checkOptions(validators, use.use, use.with, where, problems);
  if (
    suite.task !== 'pairwise' &&
    suite.validators.length === 0 &&
    cases.some(({ item }) => (item.validators ?? []).length === 0)
  ) {
    problems.push({ severity: 'error', where: suite.id, message: 'there are cases that no validator scores' });
  }
  if (suite.metrics.filter(({ weight }) => weight === 'primary').length !== 1) {
    problems.push({
      severity: 'warning',
      where: `${suite.id}: metrics`,
      message: 'not exactly one metric has the weight `primary`',
    });
  }
  findDuplicates(suite, problems);
  if (problems.some(({ severity }) => severity === 'error')) return { problems, cases: cases.length, examples: 0 };

  const emitted = new Set<string>();
  let examples = 0;
  for (const { item, where } of cases) {
    for (const [expected, samples] of [
      ['pass', item.examples?.pass ?? []],
      ['fail', item.examples?.fail ?? []],
    ] as const) {
      for (const [index, text] of samples.entries()) {
        const output = suite.task === 'episode' ? await services.play?.(suite, item, text) : { text };
        if (output === undefined) continue;
        examples++;
        const losses = await score(suite, item, output, validators, emitted);
        const at = `${where}: examples.${expected}.${index}`;
        if (expected === 'pass' && losses.length > 0)
          problems.push({ severity: 'error', where: at, message: `should pass, but: ${losses.join('; ')}` });
        if (expected === 'fail' && losses.length === 0)
          problems.push({ severity: 'error', where: at, message: 'should fail, but earns the best of every metric' });
      }
    }
  }
  const first = cases[0]?.item;
  if (examples === 0 && first !== undefined && suite.task === 'generate')
    await score(suite, first, { text: '' }, validators, emitted);
  if (examples > 0) checkEmitted(suite, emitted, problems);
  return { problems, cases: cases.length, examples };
}

async function loadValidators(
  suite: Suite,
  cases: readonly Case[],
  services: SuiteCheckServices,
): Promise<ReadonlyMap<string, Validator>> {
  const ids = new Set([...suite.validators, ...cases.flatMap((item) => item.validators ?? [])].map(({ use }) => use));
  return new Map(await Promise.all([...ids].sort().map(async (id) => [id, await services.validator(id)] as const)));
}

const compiled = new WeakMap<Validator, ReturnType<typeof compileSchema>>();

function checkOptions(
  validators: ReadonlyMap<string, Validator>,
  id: string,
  options: unknown,
  where: string,
  problems: SuiteProblem[],
): void {
  const validator = validators.get(id);
  if (validator === undefined) return;
  const check = compiled.get(validator) ?? compileSchema(validator.options, id);
  compiled.set(validator, check);
  if (check(options)) return;
  const error = check.errors?.find(({ keyword }) => keyword === 'additionalProperties') ?? check.errors?.[0];
  const stranger = (error?.params as { additionalProperty?: string } | undefined)?.additionalProperty;
  const near =
    stranger === undefined
      ? null
      : nearest(stranger, Object.keys((validator.options['properties'] as object | undefined) ?? {}));
  const what =
    stranger === undefined
      ? `${error?.instancePath ?? ''} ${error?.message ?? 'is not valid'}`.trim()
      : `unknown option "${stranger}"${near === null ? '' : `; did you mean "${near}"?`}`;
  problems.push({ severity: 'error', where: `${where}: ${id}`, message: what });
}

/** What keeps an output from the best value of every metric of the suite that it has. */
async function score(
  suite: Suite,
  item: Case,
  output: ScoredOutput,
  validators: ReadonlyMap<string, Validator>,
  emitted: Set<string>,
): Promise<string[]> {
  const losses: string[] = [];
  for (const { use, with: options } of [...suite.validators, ...(item.validators ?? [])]) {
    const scores = await validators.get(use)?.validate({ case: item, output, with: options });
    for (const [name, { value, explanation = '' }] of Object.entries(scores ?? {})) {
      emitted.add(name);
      const metric = suite.metrics.find((each) => each.name === name);
      if (metric === undefined) continue;
      const best = metric.direction === 'higher' ? 1 : 0;
      if (value !== best)
        losses.push(`${name} is ${value ?? 'unscored'}${explanation === '' ? '' : ` (${explanation})`}`);
    }
  }
  return losses;
}

function checkEmitted(suite: Suite, emitted: ReadonlySet<string>, problems: SuiteProblem[]): void {
  for (const { name, derived } of suite.metrics) {
    if (emitted.has(name) || derived !== undefined) continue;
    const near = nearest(name, [...emitted]);
    problems.push({
      severity: 'warning',
      where: `${suite.id}: metrics.${name}`,
      message: `no validator emitted it on the sample outputs${near === null ? '' : `; did you mean "${near}"?`}`,
    });
  }
  for (const name of emitted) {
    if (!suite.metrics.some((metric) => metric.name === name))
      problems.push({
        severity: 'warning',
        where: `${suite.id}: metrics`,
        message: `"${name}" is emitted, but not defined`,
      });
  }
}

/** Cases whose text differs only in case, white space, digits and punctuation. */
function findDuplicates(suite: Suite, problems: SuiteProblem[]): void {
  for (const [split, items] of Object.entries(suite.splits)) {
    const seen = new Map<string, Case>();
    for (const item of items) {
      const key = [item.input, suite.task === 'choice' ? item.target : null]
        .map((part) =>
          JSON.stringify(part)
            .toLowerCase()
            .replace(/[^\p{L}]+/gu, ' '),
        )
        .join('|');
      const first = seen.get(key);
      if (first !== undefined && first.cluster !== undefined && first.cluster === item.cluster) continue;
      if (first !== undefined)
        problems.push({
          severity: 'warning',
          where: `${suite.id}/${split}/${item.id}`,
          message: `nearly the same input as ${first.id}, and not of one cluster`,
        });
      else seen.set(key, item);
    }
  }
}
