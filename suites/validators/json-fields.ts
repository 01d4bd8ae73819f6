import type { Score, Scores } from '../../src/contracts/index.ts';
import { defineValidator } from '../../src/kit/index.ts';
import { same } from './lib/same.ts';
import { clip, metricName, optionsSchema, stringList } from './lib/scores.ts';
import { own, parseObject } from './lib/strict-json.ts';
import { wordOverlap } from './lib/text.ts';

const field = { type: 'string', minLength: 1 } as const;
const byMetric = (value: unknown): Readonly<Record<string, unknown>> => ({
  type: 'object',
  propertyNames: metricName,
  additionalProperties: value,
});

interface Options {
  readonly accuracy?: Readonly<Record<string, string>>;
  readonly together?: Readonly<Record<string, readonly string[]>>;
  readonly wherePresent?: Readonly<Record<string, string>>;
  readonly invented?: Readonly<Record<string, { readonly field: string; readonly tags?: readonly string[] }>>;
  readonly recall?: Readonly<Record<string, { readonly field: string; readonly value: unknown }>>;
  readonly overlap?: Readonly<Record<string, string>>;
}

/**
 * Fields of a JSON output against the fields of `target`. Output that is no JSON object has every field wrong;
 * it has invented nothing, because nobody can read a value from it.
 * - `accuracy`: 1 if the field equals the target's.
 * - `together`: 1 if all listed fields are right.
 * - `wherePresent`: accuracy over the cases whose target is not null.
 * - `invented`: over the cases whose target is null or that carry one of `tags`: 1 if a value is given that is not the target (lower is better).
 * - `recall`: accuracy over the cases whose target has the value.
 * - `overlap`: F1 of words in [0, 1].
 */
export default defineValidator({
  summary: 'Fields of a JSON output against the target',
  version: '1.0.0',
  options: optionsSchema({
    accuracy: byMetric(field),
    together: byMetric({ ...stringList, minItems: 1 }),
    wherePresent: byMetric(field),
    invented: byMetric(optionsSchema({ field, tags: stringList }, ['field'])),
    recall: byMetric(optionsSchema({ field, value: {} }, ['field', 'value'])),
    overlap: byMetric(field),
  }),
  metrics: ['*'],
  validate: async ({ case: one, output, with: given }) => {
    const options = given as Options;
    const answer = parseObject(output.text);
    const scores: Record<string, Score> = Object.create(null) as Record<string, Score>;
    const right = (name: string): boolean => same(own(answer, name), own(one.target, name));
    const grade = (name: string): Score =>
      right(name) ? { value: 1 } : { value: 0, explanation: explain(answer, one.target, name) };
    const target = (name: string): unknown => own(one.target, name);

    for (const [metric, name] of Object.entries(options.accuracy ?? {})) {
      if (target(name) !== undefined) scores[metric] = grade(name);
    }
    for (const [metric, names] of Object.entries(options.together ?? {})) {
      if (names.some((name) => target(name) === undefined)) continue;
      const wrong = names.filter((name) => !right(name));
      scores[metric] =
        wrong.length === 0
          ? { value: 1 }
          : { value: 0, explanation: answer === null ? 'not a JSON object' : `wrong: ${wrong.join(', ')}` };
    }
    for (const [metric, name] of Object.entries(options.wherePresent ?? {})) {
      if (target(name) !== undefined && target(name) !== null) scores[metric] = grade(name);
    }
    for (const [metric, { field: name, tags = [] }] of Object.entries(options.invented ?? {})) {
      const applies =
        target(name) === null || (target(name) !== undefined && tags.some((tag) => one.tags?.includes(tag)));
      if (!applies) continue;
      const value = own(answer, name);
      const invented = value !== undefined && value !== null && !same(value, target(name));
      scores[metric] = invented ? { value: 1, explanation: explain(answer, one.target, name) } : { value: 0 };
    }
    for (const [metric, { field: name, value }] of Object.entries(options.recall ?? {})) {
      if (same(target(name), value)) scores[metric] = grade(name);
    }
    for (const [metric, name] of Object.entries(options.overlap ?? {})) {
      const wanted = target(name);
      if (typeof wanted !== 'string') continue;
      const value = own(answer, name);
      scores[metric] =
        typeof value === 'string'
          ? { value: wordOverlap(value, wanted) }
          : { value: 0, explanation: explain(answer, one.target, name) };
    }
    return { ...scores } satisfies Scores;
  },
});

function explain(answer: unknown, target: unknown, name: string): string {
  if (answer === null) return 'not a JSON object';
  return `${name} is ${clip(JSON.stringify(own(answer, name)) ?? 'missing')}, not ${clip(JSON.stringify(own(target, name)) ?? 'given')}`;
}
