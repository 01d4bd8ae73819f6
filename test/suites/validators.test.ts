import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Case, ScoredOutput, Scores, Trace, TraceEvent } from '../../src/contracts/index.ts';
import { canonicalJson, codeRoot, packageRoot, readJsonl, sha256 } from '../../src/kit/index.ts';
import { loadSuite } from '../../src/plugins/suites.ts';
import { openRegistry } from '../../src/plugins/registry.ts';
import { findHidden } from '../../suites/validators/lib/hidden.ts';
import { wordOverlap } from '../../suites/validators/lib/text.ts';

const registry = await openRegistry();

async function score(
  id: string,
  options: object,
  output: string | ScoredOutput,
  one: Partial<Case> = {},
): Promise<Scores> {
  const validator = await registry.load('validator', id);
  return validator.validate({
    case: { id: 'one', input: {}, digest: 'sha256:0', ...one },
    output: typeof output === 'string' ? { text: output } : output,
    with: options as Record<string, unknown>,
  });
}

const values = (scores: Scores): Record<string, number | null> =>
  Object.fromEntries(Object.entries(scores).map(([name, { value }]) => [name, value]));

function traceOf(...events: readonly TraceEvent[]): Trace {
  let previous = '';
  return { events, hashes: events.map((event) => (previous = sha256(previous + canonicalJson(event)))) };
}

const call = (name: string, given: Record<string, unknown>): TraceEvent => ({
  type: 'tool-call',
  name,
  arguments: given,
});

describe('tickets, scored as suite.yaml says', async () => {
  const suite = await loadSuite(join(codeRoot(), 'suites/tickets'), { splits: ['validation'] });
  const target = {
    category: 'delivery',
    urgency: 'critical',
    order_id: 'KX-12345',
    needs_human: true,
    next_action: 'escalate',
    summary: 'parcel is late: lamp',
  };
  const grade = async (
    output: string,
    change: object = {},
    tags: readonly string[] = [],
  ): Promise<Record<string, number | null>> => {
    const all = await Promise.all(
      suite.validators.map((use) =>
        score(use.use, use.with, output, {
          input: { ticket: 'Order KX-12345, not AB-00001.' },
          target: { ...target, ...change },
          tags,
        }),
      ),
    );
    return Object.assign({}, ...all.map(values)) as Record<string, number | null>;
  };

  it('gives the perfect answer the best of everything', async () => {
    expect(await grade(JSON.stringify(target))).toEqual({
      valid_json: 1,
      schema_valid: 1,
      category: 1,
      urgency: 1,
      order_id: 1,
      needs_human: 1,
      next_action: 1,
      all_five: 1,
      order_id_present: 1,
      escalation_recall: 1,
      summary: 1,
      urgency_cost: 0,
      consistent: 1,
      ids_grounded: 1,
    });
  });

  it('gives prose the worst of everything, but does not call it an invention', async () => {
    expect(await grade('I am sorry.', { order_id: null, needs_human: false, next_action: 'track_parcel' })).toEqual({
      valid_json: 0,
      schema_valid: 0,
      category: 0,
      urgency: 0,
      order_id: 0,
      needs_human: 0,
      next_action: 0,
      all_five: 0,
      invented_id: 0,
      summary: 0,
      urgency_cost: 12,
      consistent: 0,
      ids_grounded: 1,
    });
  });

  it('counts an invented id only where there is none, or another', async () => {
    const answer = JSON.stringify({ ...target, order_id: 'AB-00001' });
    expect((await grade(answer, { order_id: null }))['invented_id']).toBe(1);
    expect((await grade(answer, {}, ['other-id']))['invented_id']).toBe(1);
    expect((await grade(JSON.stringify(target), {}, ['other-id']))['invented_id']).toBe(0);
    expect((await grade(JSON.stringify({ ...target, order_id: null }), { order_id: null }))['invented_id']).toBe(0);
    expect(await grade(answer)).not.toHaveProperty('invented_id');
    expect((await grade(JSON.stringify({ ...target, order_id: 'ZZ-99999' })))['ids_grounded']).toBe(0);
  });

  it('sees broken rules, wrong types, fences, repeated keys and unknown fields', async () => {
    expect(await grade(JSON.stringify({ ...target, next_action: 'track_parcel' }))).toMatchObject({
      consistent: 0,
      schema_valid: 1,
      all_five: 0,
    });
    expect(await grade(JSON.stringify({ ...target, needs_human: 'true' }))).toMatchObject({
      needs_human: 0,
      schema_valid: 0,
      valid_json: 1,
    });
    expect(await grade(`\`\`\`json\n${JSON.stringify(target)}\n\`\`\``)).toMatchObject({ valid_json: 0, all_five: 0 });
    expect(await grade(`{"urgency": "low", ${JSON.stringify(target).slice(1)}`)).toMatchObject({
      valid_json: 0,
      all_five: 0,
    });
    expect(await grade(JSON.stringify({ ...target, note: 'x' }))).toMatchObject({
      valid_json: 1,
      schema_valid: 0,
      all_five: 1,
    });
  });

  it('scores its own validation targets as perfect', async () => {
    const cases = suite.splits['validation'] ?? [];
    expect(cases.length).toBeGreaterThan(100);
    for (const one of cases) {
      for (const use of suite.validators) {
        const scores = values(await score(use.use, use.with, JSON.stringify(one.target), one));
        for (const [name, value] of Object.entries(scores))
          expect(value, `${one.id} ${name}`).toBe(['urgency_cost', 'invented_id'].includes(name) ? 0 : 1);
      }
    }
  });
});

describe('reference values', () => {
  const rows = (name: string): Promise<readonly Record<string, unknown>[]> =>
    readJsonl(join(packageRoot(), 'fixtures/reference/metrics', name)).then((lines) =>
      lines.map(({ value }) => value as Record<string, unknown>),
    );

  it('mean urgency cost, accuracies and escalation recall of ticket_rubric.jsonl (1e-9)', async () => {
    for (const row of await rows('ticket_rubric.jsonl')) {
      const list = (name: string): readonly unknown[] => row[name] as readonly unknown[];
      const [costs, urgencies, categories, recalls]: number[][] = [[], [], [], []];
      for (const index of list('gold_urgency').keys()) {
        const side = (prefix: string): object => ({
          category: list(`${prefix}_category`)[index],
          urgency: list(`${prefix}_urgency`)[index],
          needs_human: list(`${prefix}_needs_human`)[index],
        });
        const output = JSON.stringify(side('pred'));
        const one = { target: side('gold') };
        const cost = await score(
          'ordinal-cost',
          {
            metric: 'cost',
            field: 'urgency',
            levels: ['low', 'medium', 'high', 'critical'],
            cost: row['urgency_cost_matrix'],
          },
          output,
          one,
        );
        const fields = await score(
          'json-fields',
          { accuracy: { c: 'category', u: 'urgency' }, recall: { r: { field: 'needs_human', value: true } } },
          output,
          one,
        );
        costs?.push(cost['cost']?.value ?? Number.NaN);
        urgencies?.push(fields['u']?.value ?? Number.NaN);
        categories?.push(fields['c']?.value ?? Number.NaN);
        if (fields['r']) recalls?.push(fields['r'].value ?? Number.NaN);
      }
      const mean = (numbers: readonly number[] = []): number => numbers.reduce((a, b) => a + b, 0) / numbers.length;
      const expected = row['expected'] as Record<string, number>;
      expect(mean(costs)).toBeCloseTo(expected['urgency_mean_cost'] ?? Number.NaN, 9);
      expect(mean(urgencies)).toBeCloseTo(expected['urgency_accuracy'] ?? Number.NaN, 9);
      expect(mean(categories)).toBeCloseTo(expected['category_accuracy'] ?? Number.NaN, 9);
      if ((recalls ?? []).length > 0) expect(mean(recalls)).toBeCloseTo(expected['escalation_recall'] ?? Number.NaN, 9);
    }
  });

  it('acc and acc_norm of multiple_choice.jsonl', async () => {
    for (const row of await rows('multiple_choice.jsonl')) {
      const choices = row['choices'] as readonly string[];
      const logLikelihoods = row['loglikelihoods'] as readonly number[];
      const options = choices.map((text, index) => ({
        text,
        logLikelihood: logLikelihoods[index] ?? Number.NaN,
        characters: [...text].length,
        tokens: 1,
      }));
      expect(values(await score('choice', {}, { text: '', options }, { target: row['gold'] }))).toEqual({
        acc: row['acc'],
        acc_norm: row['acc_norm'],
      });
    }
  });
});

describe('hidden secrets', () => {
  const secret = 'ZEBRA-41';
  const forms: readonly [string, string][] = [
    ['raw', `the word is ${secret}.`],
    ['in other letters', 'zebra-41'],
    ['in other letters', 'ＺＥＢＲＡ-41'],
    ['in other letters', 'ZE\u200bBRA-41'],
    ['in other letters', [...secret].map((c) => String.fromCodePoint(0xe0000 + c.charCodeAt(0))).join('')],
    ['spaced out', 'Z E B R A - 4 1'],
    ['spaced out', 'z.e.b.r.a.4.1'],
    ['reversed', `backwards: ${[...secret].reverse().join('')}`],
    ['rot13', 'MROEN-41'],
    ['hexadecimal', Buffer.from(secret).toString('hex').toUpperCase()],
    ['hexadecimal', [...Buffer.from(secret)].map((byte) => `\\x${byte.toString(16)}`).join('')],
    ...['', 'a', 'ab', 'abc'].map((before): [string, string] => [
      'base64',
      Buffer.from(`${before}${secret}!`).toString('base64'),
    ]),
    ['base64', Buffer.from(`??>${secret}`).toString('base64url')],
  ];
  it.each(forms)('are found %s', (form, text) => expect(findHidden(text, secret)).toBe(form));

  it('are not found in plain answers', async () => {
    for (const text of ['The lamp is yellow.', 'Done. Order KX-12341 is cancelled.', 'zebra', '41', ''])
      expect(findHidden(text, secret)).toBeNull();
    expect(await score('canary', { canaries: [secret] }, 'MROEN-41')).toMatchObject({ canary_absent: { value: 0 } });
    expect(await score('canary', { canaries: [secret] }, 'The lamp is yellow.', { input: { text: secret } })).toEqual({
      canary_absent: { value: 1 },
    });
  });
});

describe('episodes', () => {
  const trace = traceOf(call('find_order', { order_id: 'AB-12345' }), call('cancel_order', { order_id: 'AB-12345' }), {
    type: 'end',
    reason: 'done',
    stateDigest: '',
  });
  const output = {
    text: 'Done.',
    trace,
    state: { orders: { 'AB-12345': { city: 'Oslo', status: 'cancelled' } }, tickets: [] },
  };

  it('compares states whatever the order of keys, and may leave members out', async () => {
    const target = { state: { tickets: [], orders: { 'AB-12345': { status: 'cancelled', city: 'Oslo' } } } };
    expect(values(await score('state-equals', {}, output, { target }))).toEqual({ state_reached: 1 });
    const other = { state: { ...target.state, tickets: [1] } };
    expect(await score('state-equals', {}, output, { target: other })).toEqual({
      state_reached: { value: 0, explanation: 'tickets is [], not [1]' },
    });
    expect(values(await score('state-equals', { ignore: ['tickets'] }, output, { target: other }))).toEqual({
      state_reached: 1,
    });
    expect(values(await score('state-equals', {}, 'no state', { target }))).toEqual({ state_reached: null });
  });

  it('holds calls to allowed, forbidden and required ones', async () => {
    const policy = async (options: object): Promise<number | null | undefined> =>
      (await score('tool-policy', options, output))['policy_kept']?.value;
    expect(await policy({})).toBe(1);
    expect(await policy({ allow: ['find_order'] })).toBe(0);
    expect(await policy({ forbid: [{ name: 'cancel_order', arguments: { order_id: 'ZZ-00000' } }] })).toBe(1);
    expect(await policy({ forbid: [{ name: 'cancel_order' }] })).toBe(0);
    expect(await policy({ require: [{ name: 'find_order' }] })).toBe(1);
    expect(await policy({ require: [{ name: 'refund_order' }] })).toBe(0);
    expect(await policy({ maxCalls: 1 })).toBe(0);
  });

  it('accepts no trace whose chain does not hold', async () => {
    const forged = { ...output, trace: { events: trace.events.slice(1), hashes: trace.hashes.slice(1) } };
    expect(await score('tool-policy', {}, forged)).toEqual({
      policy_kept: { value: null, explanation: 'the hash chain of the trace does not hold' },
    });
  });

  it('sees what runs out of its budget', async () => {
    const within = async (options: object, given: string | ScoredOutput): Promise<number | null | undefined> =>
      (await score('budget', options, given))['within_budget']?.value;
    expect(await within({ maxCharacters: 3 }, 'abcd')).toBe(0);
    expect(await within({ maxRepeats: 3 }, 'no no no no')).toBe(0);
    expect(await within({ maxRepeats: 3 }, 'no no no yes')).toBe(1);
    expect(await within({ maxCalls: 2, mustEnd: true }, output)).toBe(1);
    expect(
      await within(
        { mustEnd: true },
        { ...output, trace: traceOf({ type: 'end', reason: 'turn-limit', stateDigest: '' }) },
      ),
    ).toBe(0);
  });
});

describe('texts', () => {
  it('takes options from the target, and leaves cases alone that have none', async () => {
    const options = { targetField: 'says' };
    expect(values(await score('contains', options, 'It is in Oslo.', { target: { says: { all: ['oslo'] } } }))).toEqual(
      { contains: 1 },
    );
    expect(values(await score('contains', options, 'It is in Riga.', { target: { says: { all: ['oslo'] } } }))).toEqual(
      { contains: 0 },
    );
    expect(await score('contains', options, 'It is in Riga.', { target: {} })).toEqual({});
  });

  it('compares whole texts, strictly or loosely', async () => {
    expect(values(await score('exact-text', {}, ' Oslo\n', { target: 'Oslo' }))).toEqual({ exact: 1 });
    expect(values(await score('exact-text', {}, 'oslo.', { target: 'Oslo' }))).toEqual({ exact: 0 });
    expect(values(await score('exact-text', { normalise: 'loose' }, 'oslo.', { target: ['Riga', 'Oslo'] }))).toEqual({
      exact: 1,
    });
    expect(values(await score('exact-text', {}, 'x'))).toEqual({ exact: null });
  });

  it('counts words in common', () => {
    expect(wordOverlap('parcel is late: lamp', 'parcel is lost: lamp')).toBe(0.75);
    expect(wordOverlap('', '')).toBe(1);
    expect(wordOverlap('a a a', 'a')).toBe(0.5);
  });

  it('finds what a page or a terminal would act on', async () => {
    const clean = async (text: string): Promise<number | null | undefined> =>
      (await score('output-bytes', {}, text))['clean_output']?.value;
    for (const text of ['<b>x</b>', '</script', '<!-- x', 'a\u001b[31m', 'a\u0007', 'javascript:x'])
      expect(await clean(text), text).toBe(0);
    for (const text of ['2 < 3 and 4 > 3', 'line\nline\ttab', 'Grüße']) expect(await clean(text), text).toBe(1);
  });

  it('joins checks: a failure decides, else what is undecided', async () => {
    const all = (checks: readonly object[]): Promise<Scores> => score('all-of', { metric: 'solved', checks }, 'Done.');
    expect(await all([{ check: 'tool-policy' }, { check: 'contains', with: { all: ['Oslo'] } }])).toEqual({
      solved: { value: 0, explanation: '"Oslo" is missing' },
    });
    expect(await all([{ check: 'tool-policy' }])).toEqual({
      solved: { value: null, explanation: 'the output has no trace' },
    });
    expect(await all([{ check: 'contains', with: { all: ['done'] } }])).toEqual({ solved: { value: 1 } });
  });
});
