import { rm } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import native from '../../../engines/native/index.ts';
import type { Completion, GenerateRequest, Model, TextScoreRequest } from '../../../src/contracts/index.ts';
import { checkAgainst, compileSchema, Random } from '../../../src/kit/index.ts';
import { writeTinyCheckpoint } from '../../support/tiny-checkpoint.ts';

let path: string;
let model: Model;

beforeAll(async () => {
  path = await writeTinyCheckpoint({ seed: 11, modelType: 'qwen2' });
  model = await native.open({ id: 'tiny', path }, { threads: 1, maxBatch: 1 });
});
afterAll(async () => {
  await model.close();
  await rm(path, { recursive: true });
});

async function collect(from: Model, requests: readonly GenerateRequest[]): Promise<Completion[]> {
  const found: Completion[] = [];
  for await (const completion of from.generate(requests)) found.push(completion);
  return found.sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** Prompts of many lengths, some with a long common beginning, some equal. */
function prompts(count: number): GenerateRequest[] {
  const random = new Random(3, 'prompts');
  const shared = 'Tools: find_order(order_id), cancel_order(order_id). ';
  return Array.from({ length: count }, (_, index) => ({
    id: `r${String(index).padStart(2, '0')}`,
    prompt: {
      text: `<|user|>${index % 3 === 0 ? shared : ''}${'where is my order '.repeat(1 + random.integer(4))}${index % 5}<|end|><|assistant|>`,
    },
    maxTokens: 4 + random.integer(24),
  }));
}

const essence = (completions: readonly Completion[]): unknown =>
  completions.map(({ id, text, finish, usage }) => ({
    id,
    text,
    finish,
    prompt: usage.promptTokens,
    generated: usage.generatedTokens,
  }));

describe('generated texts', () => {
  it('do not depend on batch, threads or order', async () => {
    const requests = prompts(20);
    const alone = essence(await collect(model, requests));
    expect(new Set((alone as { text: string }[]).map(({ text }) => text)).size).toBeGreaterThan(5);
    for (const [threads, maxBatch] of [
      [2, 3],
      [1, 16],
      [3, 64],
    ] as const) {
      const other = await native.open({ id: 'tiny', path }, { threads, maxBatch });
      expect(essence(await collect(other, new Random(maxBatch).shuffle(requests)))).toEqual(alone);
      await other.close();
    }
  });

  it('are what scoring calls the most probable tokens', async () => {
    const request = prompts(1)[0] as GenerateRequest;
    const context = (request.prompt as { text: string }).text;
    const [completion] = await collect(model, [request]);
    const text = completion?.text ?? '';
    const [score] = await model.score([{ context, continuation: text }]);
    const ids = model.tokenize(text);
    // Greedy tokens can be another way to write the text; only an equal one can be compared.
    if (ids.length === completion?.usage.generatedTokens) expect(score?.isGreedy.every(Boolean)).toBe(true);
    expect(score?.logProbabilities.every((value) => value <= 0 && Number.isFinite(value))).toBe(true);
  });

  it('end before a stop text, and at the first one', async () => {
    const [request] = prompts(1) as [GenerateRequest];
    const [whole] = await collect(model, [{ ...request, maxTokens: 40 }]);
    const text = whole?.text ?? '';
    const stop = text.slice(5, 7);
    const [cut] = await collect(model, [{ ...request, maxTokens: 40, stop: ['never to be seen', stop] }]);
    expect(cut).toMatchObject({ text: text.slice(0, text.indexOf(stop)), finish: 'stop' });
    expect(cut?.usage.generatedTokens).toBeLessThan(whole?.usage.generatedTokens ?? 0);
  });

  it('are refused one by one, and the others go on', async () => {
    const good = prompts(3);
    const bad: [string, Partial<GenerateRequest>][] = [
      ['CUPEL_NATIVE_CONTEXT_OVERFLOW', { maxTokens: 250 }],
      ['CUPEL_NATIVE_REQUEST_INVALID', { sampling: { temperature: -0.7 } }],
      ['CUPEL_NATIVE_REQUEST_INVALID', { maxTokens: 1.5 }],
      ['CUPEL_NATIVE_REQUEST_INVALID', { prompt: { text: '' } }],
      ['CUPEL_NATIVE_SCHEMA_UNSUPPORTED', { jsonSchema: { type: 'array', uniqueItems: true } }],
      [
        'CUPEL_NATIVE_TOOLS_UNSUPPORTED',
        { prompt: { messages: [], tools: [{ name: 't', description: '', parameters: {} }] } },
      ],
    ];
    const mixed = [
      ...bad.map(([, part], index) => ({ ...(good[0] as GenerateRequest), id: `bad${index}`, ...part })),
      ...good,
    ];
    const found = await collect(model, mixed);
    expect(found.slice(0, bad.length).map(({ id, finish, error, text }) => [id, finish, error?.code, text])).toEqual(
      bad.map(([code], index) => [`bad${index}`, 'error', code, '']),
    );
    expect(essence(found.slice(bad.length))).toEqual(essence(await collect(model, good)));
  });

  it('stop coming when the signal says so, and the model goes on', async () => {
    const controller = new AbortController();
    const seen: string[] = [];
    await expect(async () => {
      for await (const completion of model.generate(prompts(20), controller.signal)) {
        seen.push(completion.id);
        controller.abort(new Error('enough'));
      }
    }).rejects.toThrow('enough');
    expect(seen.length).toBeLessThan(20);
    expect(await collect(model, prompts(2))).toHaveLength(2);
  });

  it('are no silent nothing when the signal comes while they wait for their turn', async () => {
    const controller = new AbortController();
    const first = collect(model, prompts(20));
    const second = (async () => {
      for await (const _ of model.generate(prompts(20), controller.signal)) controller.abort(new Error('late'));
    })();
    controller.abort(new Error('enough'));
    await expect(second).rejects.toThrow('enough');
    expect(await first).toHaveLength(20);
  });

  it('stop being made when the consumer leaves', async () => {
    for await (const completion of model.generate(prompts(20))) {
      expect(completion.finish).not.toBe('error');
      break;
    }
    expect(await collect(model, prompts(1))).toHaveLength(1);
  });
});

describe('scores', () => {
  const requests: TextScoreRequest[] = ['the order', 'the oven', 'x', 'the order is here', ''].flatMap((context) =>
    [' is late', ' is here', 'é', ''].map((continuation) => ({ context, continuation })),
  );

  it('do not depend on batch, threads or order', async () => {
    const together = await model.score(requests);
    const other = await native.open({ id: 'tiny', path }, { threads: 3 });
    for (const [index, request] of requests.entries()) {
      const [alone] = await other.score([request]);
      expect(alone).toEqual(together[index]);
      expect(alone?.logProbabilities).toHaveLength(
        model.tokenize(request.context + request.continuation).length - model.tokenize(request.context).length,
      );
    }
    expect(await other.score([...requests].reverse())).toEqual([...together].reverse());
    await other.close();
  });

  it('add up to one over all continuations of one token', async () => {
    const letters = Array.from({ length: 26 }, (_, index) => String.fromCharCode(97 + index));
    const scores = await model.score(letters.map((continuation) => ({ context: '<|user|>', continuation })));
    const mass = scores.reduce((sum, { logProbabilities }) => sum + Math.exp(logProbabilities[0] ?? NaN), 0);
    expect(mass).toBeGreaterThan(0);
    expect(mass).toBeLessThan(1);
  });

  it('are refused beyond the context', async () => {
    await expect(model.score([{ context: 'a ', continuation: 'b'.repeat(300) }])).rejects.toMatchObject({
      code: 'CUPEL_NATIVE_CONTEXT_OVERFLOW',
    });
  });
});

describe('JSON schemas', () => {
  const ticket = {
    type: 'object',
    properties: {
      category: { enum: ['billing', 'delivery', 'returns'] },
      order_id: { anyOf: [{ type: 'null' }, { type: 'string', pattern: '^[A-Z]{2}-[0-9]{5}$' }] },
      needs_human: { type: 'boolean' },
      summary: { type: 'string', maxLength: 12 },
    },
    required: ['category', 'order_id', 'needs_human', 'summary'],
    additionalProperties: false,
  };

  it('make every completion valid, in compact form and the order of the properties, on random weights', async () => {
    const requests = prompts(30).map((request) => ({ ...request, maxTokens: 110, jsonSchema: ticket }));
    const valid = compileSchema(ticket, 'ticket');
    const found = await collect(model, requests);
    for (const { text, finish } of found) {
      expect(finish).toBe('stop');
      const value: unknown = JSON.parse(text);
      checkAgainst(valid, value, 'completion');
      expect(Object.keys(value as object)).toEqual(Object.keys(ticket.properties));
      expect(text).toMatch(
        /^\{"category": "\w+", "order_id": (null|"[^"]+"), "needs_human": (true|false), "summary": /,
      );
    }
    expect(new Set(found.map(({ text }) => text)).size).toBeGreaterThan(1);
  });

  it('hold beside requests without one, and cut completions are told as cut', async () => {
    const plain = prompts(6);
    const schema = {
      type: 'object',
      properties: { a: { const: 'a long text that has to be written out' } },
      required: ['a'],
      additionalProperties: false,
    };
    const mixed = plain.map((request, index) =>
      index % 2 === 0 ? { ...request, maxTokens: 9, jsonSchema: schema } : request,
    );
    const found = await collect(model, mixed);
    const alone = await collect(model, plain);
    for (const [index, completion] of found.entries()) {
      if (index % 2 === 1) expect(essence([completion])).toEqual(essence([alone[index] as Completion]));
      else expect(completion).toMatchObject({ finish: 'length', text: expect.stringMatching(/^\{"a": "a/) });
    }
  });

  it.each([
    [{ type: 'string', not: { const: 'a' } }, 'not'],
    [{ type: 'array', contains: { const: 1 } }, 'contains'],
    [{ type: 'object', propertyNames: { maxLength: 3 } }, 'propertyNames'],
    [{ type: 'array', uniqueItems: true, 'x-guidance': { lenient: true } }, 'uniqueItems'],
    [{ $ref: 'https://elsewhere.example/schema.json' }, 'elsewhere'],
  ])('are refused by the name of what can not be enforced: %j', async (jsonSchema, name) => {
    const [completion] = await collect(model, [{ ...(prompts(1)[0] as GenerateRequest), jsonSchema }]);
    expect(completion?.error?.code).toBe('CUPEL_NATIVE_SCHEMA_UNSUPPORTED');
    expect(completion?.error?.message).toContain(name);
  });
});
