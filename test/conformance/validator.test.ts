import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Case, ScoredOutput, Trace, TraceEvent, Validator } from '../../src/contracts/index.ts';
import { canonicalJson, compileSchema, sha256 } from '../../src/kit/index.ts';
import { openRegistry } from '../../src/plugins/registry.ts';

/** Options that a validator needs, beside `{}`; a new validator that needs none is tested without a line here. */
const options: Readonly<Record<string, readonly Readonly<Record<string, unknown>>[]>> = {
  'all-of': [
    {
      metric: 'solved',
      checks: [
        { check: 'state-equals' },
        { check: 'tool-policy', with: { allow: ['find_order'] } },
        { check: 'canary', with: { canaries: ['ZEBRA-41'] } },
      ],
    },
  ],
  canary: [{ canaries: ['ZEBRA-41'] }],
  contains: [{ all: ['a'], any: ['b', 'c'], none: ['d'] }],
  'exact-text': [{ texts: ['a'] }, { normalise: 'loose' }],
  'json-valid': [
    { schema: { type: 'object', properties: { a: { type: 'string' } }, required: ['a'] } },
    { schema: { type: 'array', items: { type: 'integer' } } },
  ],
  'json-fields': [
    {
      accuracy: { a: 'a', proto: '__proto__' },
      together: { both: ['a', 'b'] },
      wherePresent: { present: 'a' },
      invented: { invented: { field: 'b' } },
      recall: { recall: { field: 'a', value: 'x' } },
      overlap: { words: 'a' },
    },
  ],
  'ordinal-cost': [
    {
      metric: 'cost',
      field: 'a',
      levels: ['x', 'y'],
      cost: [
        [0, 1],
        [2, 0],
      ],
    },
  ],
  'rule-consistency': [{ metric: 'consistent', rules: [{ name: 'one', if: { a: true }, then: { b: ['x', 'y'] } }] }],
  'id-grounding': [{ shapes: ['AA-99999', '(.*)+$'] }],
  'output-bytes': [{ forbid: ['html', 'ansi', 'control', 'bidi', 'link'] }],
  'state-equals': [{ ignore: ['tickets'] }],
  'tool-policy': [{ forbid: [{ name: 'cancel_order', arguments: { order_id: 'AB-12345' } }], maxCalls: 2 }],
  budget: [{ maxCharacters: 100, maxCalls: 1, maxRepeats: 3, mustEnd: true }],
};

function trace(events: readonly TraceEvent[]): Trace {
  let previous = '';
  return { events, hashes: events.map((event) => (previous = sha256(previous + canonicalJson(event)))) };
}

const good = trace([
  { type: 'start', caseDigest: 'c', stateDigest: 's' },
  { type: 'tool-call', name: 'cancel_order', arguments: { order_id: 'AB-12345' } },
  { type: 'end', reason: 'done', stateDigest: 's' },
]);

const texts: readonly string[] = [
  '',
  ' ',
  'a',
  '{"a": "x", "b": null}',
  '{"a":"x","a":"y"}',
  '[1,2,3]',
  'null',
  '"text"',
  '{"__proto__": {"a": "x"}}',
  '{"constructor": 1, "toString": 2}',
  `${'['.repeat(100_000)}${']'.repeat(100_000)}`,
  `${'{"a":'.repeat(50_000)}1${'}'.repeat(50_000)}`,
  'x'.repeat(2_000_000),
  '<'.repeat(500_000),
  'a '.repeat(300_000),
  '\ud800',
  '\u0000\u001b[31m',
  '\u202eevil',
  '💥'.repeat(10_000),
  'ﷺ'.repeat(20_000),
  '{"a": 1e999}',
  `{"a": "${'\\u0000'.repeat(1000)}"}`,
  'NaN',
  '{"a": "x"} trailing',
  '-'.repeat(300_000),
];

const outputs: readonly ScoredOutput[] = [
  ...texts.map((text) => ({ text })),
  { text: 'x', options: [] },
  { text: 'x', options: [{ text: 'x', logLikelihood: Number.NaN, characters: 0, tokens: 0 }] },
  {
    text: 'x',
    options: [
      { text: 'x', logLikelihood: -1, characters: 1, tokens: 1 },
      { text: 'y', logLikelihood: -2, characters: 4, tokens: 1 },
    ],
  },
  { text: 'x', trace: good, state: { orders: {} } },
  { text: 'x', trace: { events: good.events, hashes: good.hashes.map(() => 'forged') }, state: null },
  { text: 'x', trace: { events: [], hashes: ['one'] }, state: JSON.parse('{"__proto__": 1}') as unknown },
];

const targets: readonly unknown[] = [
  undefined,
  null,
  0,
  'x',
  ['x'],
  { a: 'x', b: null },
  { state: { orders: {} } },
  JSON.parse('{"__proto__": {"a": 1}, "a": "x"}'),
  [[[]]],
];

const cases: readonly Case[] = targets.map((target, index) => ({
  id: `case-${index}`,
  input: { text: 'order AB-12345', nested: { a: 1 } },
  ...(target === undefined ? {} : { target }),
  tags: ['other-id'],
  digest: 'sha256:0',
}));

const registry = await openRegistry();
const validators = await Promise.all(
  (await registry.ids('validator')).map(async (id) => [id, await registry.load('validator', id)] as const),
);

it('finds the validators of the folder', () => {
  expect(validators.length).toBeGreaterThan(10);
});

describe.each(validators)('validator %s', (id, validator: Validator) => {
  const uses = options[id] ?? [{}];

  it('says what it is, and its options are a schema that takes what it is given and refuses strangers', () => {
    expect(validator.summary.length).toBeGreaterThan(10);
    expect(validator.summary).not.toMatch(/\.$/);
    expect(validator.version).toMatch(/^\d+\.\d+\.\d+$/);
    expect(validator.metrics.length).toBeGreaterThan(0);
    const check = compileSchema(validator.options, id);
    for (const use of uses) expect(check(use), JSON.stringify(check.errors)).toBe(true);
    expect(check({ ...uses[0], unheardOf: 1 })).toBe(false);
  });

  it('scores hostile outputs without a throw: finite or null, null only with a reason, the same twice, nothing changed', async () => {
    for (const use of uses) {
      for (const [index, one] of cases.entries()) {
        // The huge outputs once are enough: the target does not change their cost.
        for (const output of index === 5 ? outputs : outputs.filter(({ text }) => text.length < 10_000)) {
          const input = Object.freeze({
            case: Object.freeze(one),
            output: Object.freeze(output),
            with: Object.freeze(use),
          });
          const scores = await validator.validate(input);
          for (const [name, score] of Object.entries(scores)) {
            expect(name).toMatch(/^[a-z][a-z0-9_]*$/);
            if (!validator.metrics.includes('*')) expect(validator.metrics).toContain(name);
            if (score.value === null) expect(score.explanation, name).toBeTruthy();
            else expect(Number.isFinite(score.value)).toBe(true);
            expect((score.explanation ?? '').length).toBeLessThan(300);
          }
          expect(canonicalJson(await validator.validate(input))).toBe(canonicalJson(scores));
        }
      }
    }
  }, 60_000);

  it('scores any text', async () => {
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.string({ unit: 'binary' }), fc.json()), async (text) => {
        for (const use of uses)
          for (const one of cases.slice(4, 6)) await validator.validate({ case: one, output: { text }, with: use });
      }),
      { numRuns: 60, seed: 1 },
    );
  });
});
