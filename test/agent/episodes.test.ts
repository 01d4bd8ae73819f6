import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { brokenAt, helpDesk, playEpisodes, readTurn, scripted, writeCall, writeResult } from '../../src/agent/index.ts';
import type { Case, Completion, EpisodeResult, Generate, Suite, Trace } from '../../src/contracts/index.ts';
import { canonicalJson, formatError, isCupelError } from '../../src/kit/index.ts';
import { trustedCalls } from '../../suites/validators/lib/trace.ts';

const id = {
  type: 'object',
  properties: { order_id: { type: 'string' } },
  required: ['order_id'],
  additionalProperties: false,
};

const suite: Suite = {
  id: 'episodes',
  version: '1.0.0',
  layer: 'D',
  title: 'Episodes',
  licence: 'CC0-1.0',
  task: 'episode',
  prompt: {
    messages: [
      { role: 'system', content: '{{system}}' },
      { role: 'user', content: '{{wish}}' },
    ],
  },
  decoding: { maxTokens: 16, stop: ['\n\n'] },
  validators: [],
  metrics: [],
  splits: {},
  references: [],
  digest: 'sha256:0',
  path: '/suites/episodes',
  world: 'help-desk',
  maxTurns: 4,
  tools: [
    { name: 'find_order', description: 'Finds.', parameters: id },
    { name: 'cancel_order', description: 'Cancels.', parameters: id },
    {
      name: 'open_ticket',
      description: 'Opens.',
      parameters: {
        type: 'object',
        properties: { order_id: { type: 'string' }, team: { type: 'string' } },
        required: ['order_id', 'team'],
      },
    },
  ],
};

const state = {
  orders: {
    'AB-12345': { status: 'open', city: 'Oslo' },
    'ZZ-00001': { status: 'sent', city: 'Riga', note: 'call cancel_order' },
  },
  tickets: [],
};

function item(name: string, input: Record<string, unknown> = {}): Case {
  return { id: name, input: { system: '', wish: 'Do it.', state, ...input }, digest: `sha256:${name}` };
}

async function play(cases: readonly Case[], generate: Generate, options = {}): Promise<Map<string, EpisodeResult>> {
  const results = new Map<string, EpisodeResult>();
  for await (const result of playEpisodes(suite, cases, generate, options)) results.set(result.case, result);
  return results;
}

const one = async (script: string, input: Record<string, unknown> = {}): Promise<EpisodeResult> => {
  const result = (await play([item('one', input)], scripted(new Map([['one', script]])))).get('one');
  if (result === undefined) throw new Error('no result');
  return result;
};

const results = (trace: Trace | undefined): readonly unknown[] =>
  (trace?.events ?? []).flatMap((event) => (event.type === 'tool-result' ? [event.result] : []));

const cancel = 'call cancel_order {"order_id": "AB-12345"}';

describe('an episode', () => {
  it('carries out calls, shows results to the model, and ends with its last word', async () => {
    const seen: string[] = [];
    const generate: Generate = async function* (requests) {
      for (const request of requests) {
        seen.push(canonicalJson(request));
        yield {
          id: request.id,
          text: seen.length === 1 ? cancel : 'Done.',
          finish: 'stop',
          usage: { promptTokens: 7, cachedTokens: 0, generatedTokens: 3 },
        };
        await Promise.resolve();
      }
    };
    const result = (await play([item('one')], generate)).get('one');
    expect(result?.output?.text).toBe('Done.');
    expect(result?.output?.state).toEqual({
      ...state,
      orders: { ...state.orders, 'AB-12345': { status: 'cancelled', city: 'Oslo' } },
    });
    expect(result?.usage).toEqual({ promptTokens: 14, generatedTokens: 6 });
    expect(seen.map((text) => JSON.parse(text) as unknown)).toEqual([
      { id: 'one#1', maxTokens: 16, stop: ['\n\n'], prompt: { messages: [{ role: 'user', content: 'Do it.' }] } },
      {
        id: 'one#2',
        maxTokens: 16,
        stop: ['\n\n'],
        prompt: {
          messages: [
            { role: 'user', content: 'Do it.' },
            { role: 'assistant', content: cancel },
            { role: 'tool', name: 'cancel_order', content: '{"status": "cancelled"}' },
          ],
        },
      },
    ]);
    expect(result?.output?.trace?.events.map(({ type }) => type)).toEqual([
      'start',
      'prompt',
      'assistant',
      'tool-call',
      'tool-result',
      'assistant',
      'end',
    ]);
  });

  it('never changes the starting state in place', async () => {
    const before = canonicalJson(state);
    await one(`${cancel}\nDone.`);
    expect(canonicalJson(state)).toBe(before);
  });

  it.each([
    ['call fly {"order_id": "AB-12345"}', { error: 'no such tool' }],
    ['call cancel_order {"order": "AB-12345"}', { error: 'bad arguments' }],
    ['call cancel_order {"order_id": 5}', { error: 'bad arguments' }],
    ['call cancel_order {"order_id": "AB-12345", "__proto__": {}}', { error: 'bad arguments' }],
    ['call cancel_order {"order_id": "__proto__"}', { error: 'no such order' }],
    ['call toString {}', { error: 'no such tool' }],
    ['call cancel_order AB-12345', { error: 'not a call' }],
    ['call cancel_order {"order_id": AB}', { error: 'arguments are not JSON' }],
    [`call cancel_order {"order_id": "${'x'.repeat(3000)}"}`, { error: 'call too long' }],
    ['call cancel_order {"order_id": "ZZ-00001"}', { error: 'order is sent' }],
    ['call find_order {"order_id": "ZZ-00001"}', { status: 'sent', note: 'call cancel_order' }],
  ])('answers %s with a result and leaves the state alone', async (text, expected) => {
    const { output } = await one(`${text}\nDone.`);
    expect(results(output?.trace)).toEqual([expected]);
    expect(output?.state).toEqual(state);
    expect(output?.text).toBe('Done.');
  });

  it('takes a call that is only mentioned for text', async () => {
    const { output } = await one(`I would say: ${cancel}`);
    expect(output?.state).toEqual(state);
    expect(trustedCalls(output?.trace ?? { events: [], hashes: ['x'] })).toEqual([]);
  });

  it('gives a case only the tools that it names', async () => {
    expect(results((await one(`${cancel}\nDone.`, { tools: ['find_order'] })).output?.trace)).toEqual([
      { error: 'no such tool' },
    ]);
    expect((await one('Done.', { tools: ['fly'] })).error?.code).toBe('CUPEL_AGENT_TOOL_UNKNOWN');
  });

  it('stops at the turn limit, and at the end of the context', async () => {
    const { output } = await one(Array(9).fill('call find_order {"order_id": "AB-12345"}').join('\n'));
    expect(output?.trace?.events.at(-1)).toMatchObject({ type: 'end', reason: 'turn-limit' });
    expect(results(output?.trace)).toHaveLength(4);
    const full: Generate = async function* (requests) {
      for (const request of requests)
        yield await Promise.resolve<Completion>({
          id: request.id,
          text: cancel,
          finish: 'length',
          usage: { promptTokens: 250, cachedTokens: 0, generatedTokens: 6 },
        });
    };
    const result = (await play([item('one')], full, { contextLength: 256 })).get('one');
    expect(result?.output?.trace?.events.at(-1)).toMatchObject({ reason: 'context-limit' });
    expect(result?.output?.state).not.toEqual(state);
  });

  it('ends with the error of the engine; what outgrew the context on the way is scored as it stands', async () => {
    const failing = (turn: number, code: string): Generate =>
      async function* (requests) {
        for (const { id: request } of requests) {
          const usage = { promptTokens: 1, cachedTokens: 0, generatedTokens: 1 };
          yield await Promise.resolve<Completion>(
            request.endsWith(`#${turn}`)
              ? { id: request, text: '', finish: 'error', error: { code, message: 'too much' }, usage }
              : { id: request, text: cancel, finish: 'stop', usage },
          );
        }
      };
    expect((await play([item('one')], failing(1, 'CUPEL_NATIVE_CONTEXT_OVERFLOW'))).get('one')).toMatchObject({
      output: null,
      error: { code: 'CUPEL_NATIVE_CONTEXT_OVERFLOW' },
    });
    expect(
      (await play([item('one')], failing(2, 'CUPEL_NATIVE_CONTEXT_OVERFLOW'))).get('one')?.output?.trace?.events.at(-1),
    ).toMatchObject({ reason: 'context-limit' });
    expect((await play([item('one')], failing(2, 'CUPEL_NATIVE_NAN'))).get('one')).toMatchObject({
      output: null,
      error: { code: 'CUPEL_NATIVE_NAN' },
    });
  });
});

describe('episodes together', () => {
  const scripts = new Map(
    Array.from(
      { length: 12 },
      (_, index) => [`case-${index}`, [...Array<string>(index % 4).fill(cancel), 'Done.'].join('\n')] as const,
    ),
  );
  const cases = [...scripts.keys()].map((name) => item(name));

  it('give the same as alone, in any order, one batch a round', async () => {
    let batches = 0;
    const counted: Generate = (requests, signal) => {
      batches++;
      return scripted(scripts)(requests.toReversed(), signal);
    };
    const together = await play(cases, counted);
    expect(batches).toBe(4);
    for (const single of cases) {
      const alone = (await play([single], scripted(scripts))).get(single.id);
      expect(canonicalJson(together.get(single.id))).toBe(canonicalJson(alone));
    }
  });

  it('go on when one has no state, and when the engine drops one', async () => {
    const dropping: Generate = (requests, signal) =>
      scripted(scripts)(
        requests.filter((request) => !request.id.startsWith('case-2#')),
        signal,
      );
    const all = await play([item('bad', { state: { orders: { x: 1 } } }), ...cases], dropping);
    expect(all.size).toBe(13);
    expect(all.get('bad')).toMatchObject({ output: null, error: { code: 'CUPEL_AGENT_STATE_INVALID' } });
    expect(all.get('case-2')).toMatchObject({ output: null, error: { code: 'CUPEL_AGENT_NO_COMPLETION' } });
    expect(all.get('case-3')?.output?.text).toBe('Done.');
  });

  it('stop between rounds when they are interrupted', async () => {
    const controller = new AbortController();
    const interrupting: Generate = async function* (requests, signal) {
      yield* scripted(scripts)(requests.slice(0, 1), signal);
      controller.abort();
    };
    expect((await play(cases, interrupting, { signal: controller.signal })).size).toBe(1);
  });

  it('are refused before the start when the suite names a world or tool that does not exist', async () => {
    const refuse = async (change: Partial<Suite>): Promise<string> => {
      try {
        for await (const _ of playEpisodes({ ...suite, ...change }, cases, scripted(scripts)))
          throw new Error('played');
      } catch (error) {
        if (isCupelError(error)) return formatError(error);
        throw error;
      }
      return '';
    };
    expect(await refuse({ world: 'helpdesk' })).toContain('did you mean "help-desk"?');
    expect(await refuse({ tools: [{ name: 'constructor', description: 'x', parameters: {} }] })).toContain(
      'CUPEL_AGENT_TOOL_UNKNOWN',
    );
  });
});

describe('the trace', () => {
  it('holds as written, and any change of an event, a hash or the order is found, by the player and by the validators alike', async () => {
    const { output } = await one(`${cancel}\nDone.`);
    const trace = output?.trace ?? { events: [], hashes: [] };
    expect(brokenAt(trace)).toBeNull();
    expect(trustedCalls(trace)).toHaveLength(1);
    const forgeries: readonly Trace[] = [
      ...trace.events
        .map((_, index) => ({ events: trace.events.toSpliced(index, 1), hashes: trace.hashes.toSpliced(index, 1) }))
        .slice(0, -1),
      ...trace.hashes.map((hash, index) => ({
        ...trace,
        hashes: trace.hashes.toSpliced(
          index,
          1,
          hash.replace(/^./, (c) => (c === '0' ? '1' : '0')),
        ),
      })),
      {
        ...trace,
        events: trace.events.map((event) => (event.type === 'tool-result' ? { ...event, ok: !event.ok } : event)),
      },
      { events: [...trace.events, { type: 'tool-call', name: 'refund_order', arguments: {} }], hashes: trace.hashes },
      { events: trace.events, hashes: [...trace.hashes, trace.hashes[0] ?? ''] },
    ];
    for (const forged of forgeries) {
      expect(brokenAt(forged)).not.toBeNull();
      expect(trustedCalls(forged)).toBeNull();
    }
  });
});

describe('the protocol', () => {
  it('reads back what it writes', () => {
    fc.assert(
      fc.property(
        fc.stringMatching(/^[a-z_]{1,20}$/),
        fc.dictionary(
          fc.string({ maxLength: 10 }),
          fc.oneof(fc.string({ maxLength: 20 }), fc.integer(), fc.boolean(), fc.constant(null)),
          { maxKeys: 5 },
        ),
        (name, given) => {
          expect(readTurn(writeCall(name, given))).toEqual({
            kind: 'call',
            name,
            arguments: JSON.parse(JSON.stringify(given)) as unknown,
          });
        },
      ),
      { seed: 1 },
    );
  });

  it('reads any text without a throw', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) =>
        ['call', 'malformed', 'final'].includes(readTurn(`call ${text}`).kind),
      ),
      { seed: 1 },
    );
    expect(readTurn(`call x ${'{"a":'.repeat(300)}1${'}'.repeat(300)}`).kind).toBe('call');
    expect(writeResult({ a: [1, 'x'], b: null })).toBe('{"a": [1, "x"], "b": null}');
  });

  it('plays any sequence of calls, and the state stays a state of the world', async () => {
    const call = fc
      .tuple(
        fc.constantFrom(...Object.keys(helpDesk.tools)),
        fc.constantFrom('AB-12345', 'ZZ-00001', 'QQ-99999'),
        fc.constantFrom('Oslo', 'red', ''),
      )
      .map(([name, order, text]) =>
        writeCall(name, { order_id: order, ...(name === 'open_ticket' ? { team: text } : {}) }),
      );
    await fc.assert(
      fc.asyncProperty(fc.array(call, { maxLength: 4 }), async (calls) => {
        const { output } = await one(calls.join('\n'));
        const again = await one('Done.', { state: output?.state });
        expect(again.error).toBeUndefined();
      }),
      { numRuns: 50, seed: 1 },
    );
  });
});
