import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatTrainingRows, parseTrainingData, parseTrainingRows } from '../../src/data/index.ts';
import { isCupelError } from '../../src/kit/index.ts';
import { formats } from './formats.ts';

const user = { role: 'user', content: 'q' };
const assistant = { role: 'assistant', content: 'a' };
const human = { from: 'human', value: 'q' };
const gpt = { from: 'gpt', value: 'a' };

describe('formats of training data', () => {
  it.each(formats)('%s', (_, format, line, content) => {
    expect(parseTrainingData(JSON.stringify(line), 'rows.jsonl')).toEqual({
      rows: [{ id: 'line-1', ...content }],
      formats: { [format]: 1 },
      ignored: [],
    });
  });

  it('survive writing and reading, tools and calls included', () => {
    const text = formats.map(([, , line]) => JSON.stringify(line)).join('\n');
    const rows = parseTrainingRows(text, 'rows.jsonl');
    expect(parseTrainingRows(formatTrainingRows(rows), 'again.jsonl')).toEqual(rows);
  });

  it.each(formats)('keep id and tags: %s', (_, __, line, content) => {
    const text = JSON.stringify({ id: 'own', tags: ['short'], ...line });
    const rows = parseTrainingRows(text, 'rows.jsonl');
    expect(rows).toEqual([{ id: 'own', tags: ['short'], ...content }]);
    expect(parseTrainingRows(formatTrainingRows(rows), 'again.jsonl')).toEqual(rows);
  });

  it('may be mixed in a file, and are counted', () => {
    const text = ['{"text": "x"}', '{"instruction": "q", "output": "a"}', '{"text": "y"}'].join('\n');
    expect(parseTrainingData(text, 'rows.jsonl').formats).toEqual({ text: 2, alpaca: 1 });
  });

  it('may be one JSON array, whose rows are named by their place and their lines', () => {
    const text = '[\n  {"instruction": "q [{",\n   "output": "a"},\n\n  {"text": "x", "id": "own"}, {"text": "y"}\n]\n';
    expect(parseTrainingRows(text, 'rows.json').map(({ id }) => id)).toEqual(['row-1', 'own', 'row-3']);
    expect(() => parseTrainingRows(text.replace('"y"', '7'), 'rows.json')).toThrow(
      expect.objectContaining({ code: 'CUPEL_FIELD_INVALID', where: 'rows.json:5: text' }),
    );
    expect(() => parseTrainingRows(text.replace(']\n', ''), 'rows.json')).toThrow(
      expect.objectContaining({
        code: 'CUPEL_JSONL_INVALID',
        where: expect.stringMatching(/^rows\.json:\d/) as string,
      }),
    );
  });

  it.each([
    [
      'stepwise supervision',
      { prompt: 'q', completions: ['a'], labels: [true] },
      'CUPEL_DATA_NOT_TRAINABLE',
      /stepwise/,
    ],
    ['a prompt alone', { prompt: 'q' }, 'CUPEL_DATA_ROW_KIND', /without an answer/],
    ['a completion alone', { completion: 'a' }, 'CUPEL_DATA_ROW_KIND', /without "prompt"/],
    [
      'both a completion and compared answers',
      { prompt: 'q', completion: 'a', chosen: 'a', rejected: 'b' },
      'CUPEL_DATA_ROW_KIND',
      /more than one/,
    ],
    ['compared answers that share nothing', { chosen: 'yes', rejected: 'no' }, 'CUPEL_DATA_ROW_KIND', /do not begin/],
    [
      'a chosen answer of two messages',
      { prompt: 'q', chosen: [assistant, user], rejected: 'b' },
      'CUPEL_DATA_ROW_KIND',
      /assistant, user/,
    ],
    [
      'a field of another trainer',
      { prompt: 'q', chosen: 'a', rejected: 'b', margin: 2 },
      'CUPEL_DATA_NOT_TRAINABLE',
      /margin/,
    ],
    [
      'template settings',
      { messages: [user, assistant], chat_template_kwargs: { enable_thinking: false } },
      'CUPEL_DATA_NOT_TRAINABLE',
      /enable_thinking/,
    ],
    [
      'calls that may not be parallel',
      { messages: [user, assistant], parallel_tool_calls: false },
      'CUPEL_DATA_NOT_TRAINABLE',
      /parallel_tool_calls/,
    ],
    ['a name of a user', { messages: [{ ...user, name: 'x' }, assistant] }, 'CUPEL_DATA_NOT_TRAINABLE', /name "x"/],
    [
      'a weight in a prompt',
      { prompt: [{ ...user, weight: 1 }], completion: 'a' },
      'CUPEL_DATA_NOT_TRAINABLE',
      /weight 1/,
    ],
    [
      'an image',
      { messages: [{ role: 'user', content: [{ type: 'image_url', text: 'x' }] }, assistant] },
      'CUPEL_FIELD_INVALID',
      /type/,
    ],
    [
      'a role of another API',
      { messages: [{ role: 'developer', content: 'x' }, assistant] },
      'CUPEL_FIELD_INVALID',
      /role/,
    ],
    [
      'thoughts beside the answer',
      { messages: [user, { ...assistant, reasoning_content: 'x' }] },
      'CUPEL_FIELD_UNKNOWN',
      /reasoning_content/,
    ],
    [
      'arguments that are no JSON',
      { messages: [user, { role: 'assistant', tool_calls: [{ function: { name: 'f', arguments: '{' } }] }] },
      'CUPEL_DATA_TOOLS',
      /arguments/,
    ],
    [
      'an answer of no call',
      { messages: [user, { role: 'tool', content: 'x', tool_call_id: 'c9' }, assistant] },
      'CUPEL_DATA_TOOLS',
      /c9/,
    ],
    [
      'a user who calls tools',
      { messages: [{ ...user, tool_calls: [{ function: { name: 'f', arguments: {} } }] }, assistant] },
      'CUPEL_DATA_TOOLS',
      /"user" calls/,
    ],
    ['tools that are no JSON', { messages: [user, assistant], tools: 'find' }, 'CUPEL_DATA_TOOLS', /tools/],
    [
      'tools with settings that no template writes',
      { messages: [user, assistant], tools: [{ name: 'f', strict: true }] },
      'CUPEL_FIELD_UNKNOWN',
      /strict/,
    ],
    [
      'a compared answer that calls tools',
      {
        input: { messages: [user] },
        preferred_output: [{ role: 'assistant', tool_calls: [{ function: { name: 'f', arguments: {} } }] }],
        non_preferred_output: [assistant],
      },
      'CUPEL_DATA_NOT_TRAINABLE',
      /calls tools/,
    ],
    [
      'an OpenAI preference without its second answer',
      { input: { messages: [user] }, preferred_output: [assistant] },
      'CUPEL_FIELD_INVALID',
      /non_preferred_output/,
    ],
    [
      'an answer both compared and judged',
      { messages: [user, assistant], rejected_response: 'b', label: true },
      'CUPEL_DATA_ROW_KIND',
      /both/,
    ],
    ['a message without content', { messages: [{ role: 'user' }, assistant] }, 'CUPEL_DATA_EMPTY_TARGET', /no content/],
    ['an Alpaca row without output', { instruction: 'q', output: '' }, 'CUPEL_DATA_EMPTY_TARGET', /output/],
    [
      'an Alpaca row of two kinds',
      { instruction: 'q', output: 'a', chosen: 'a', rejected: 'b' },
      'CUPEL_DATA_ROW_KIND',
      /more than one/,
    ],
    [
      'an Alpaca history of threes',
      { instruction: 'q', output: 'a', history: [['a', 'b', 'c']] },
      'CUPEL_FIELD_INVALID',
      /history/,
    ],
    ['two turns of the same side', { conversations: [human, human, gpt] }, 'CUPEL_DATA_TURN_ORDER', /turn 1/],
    ['a conversation that gpt opens', { conversations: [gpt, human, gpt] }, 'CUPEL_DATA_TURN_ORDER', /turn 0/],
    [
      'two system messages',
      { system: 's', conversations: [{ from: 'system', value: 't' }, human, gpt] },
      'CUPEL_DATA_TURN_ORDER',
      /two system/,
    ],
    ['an unknown side', { conversations: [{ from: 'bing', value: 'q' }, gpt] }, 'CUPEL_FIELD_INVALID', /from/],
    [
      'a function_call that is prose',
      { conversations: [human, { from: 'function_call', value: 'find it' }, { from: 'observation', value: 'x' }, gpt] },
      'CUPEL_DATA_TOOLS',
      /find it/,
    ],
    ['a conversation that a human ends', { conversations: [human] }, 'CUPEL_DATA_EMPTY_TARGET', /role "user"/],
    [
      'a ShareGPT row of two kinds',
      { conversations: [human], chosen: gpt, rejected: gpt, kto_tag: true },
      'CUPEL_DATA_ROW_KIND',
      /more than one/,
    ],
  ] as const)('refuse %s, by name and place', (_, line, code, message) => {
    const text = `{"text": "x"}\n${JSON.stringify(line)}`;
    expect(() => parseTrainingRows(text, 'rows.jsonl')).toThrow(
      expect.objectContaining({
        code,
        message: expect.stringMatching(message) as string,
        where: expect.stringMatching(/^rows\.jsonl:2/) as string,
      }),
    );
  });

  it('name the first bad row, count the others and say where the next is', () => {
    const text = '{"text": "x"}\n{"text": ""}\n{"prompt": "q"}\n{"text": "y"}\n{"messages": []}';
    expect(() => parseTrainingRows(text, 'rows.jsonl')).toThrow(
      expect.objectContaining({
        code: 'CUPEL_DATA_EMPTY_TARGET',
        where: 'rows.jsonl:2',
        message: 'text is empty; and 2 other rows are refused, the next at rows.jsonl:3',
      }),
    );
  });

  it('never fail with anything but a coded error, whatever is changed in a row', () => {
    const lines = formats.map(([, , line]) => line);
    const junk = fc.oneof(
      fc.constantFrom(null, true, 7, '', 'x', [], {}, [[]], [{}], { role: 'user' }),
      fc.jsonValue(),
    );
    const changed = fc
      .tuple(fc.constantFrom(...lines), fc.nat(), junk, fc.boolean())
      .map(([line, place, value, deep]) => {
        const copy = structuredClone(line) as Record<string, unknown>;
        const keys = Object.keys(copy);
        const key = keys[place % keys.length] as string;
        const list = copy[key];
        if (deep && Array.isArray(list) && list.length > 0) list[place % list.length] = value;
        else copy[key] = value;
        return copy;
      });
    fc.assert(
      fc.property(changed, (line) => {
        try {
          expect(parseTrainingRows(JSON.stringify(line), 'rows.jsonl')).toHaveLength(1);
        } catch (error) {
          if (!isCupelError(error)) throw error;
          expect(error.where).toMatch(/^rows\.jsonl:1/);
        }
      }),
      { numRuns: 400, seed: 5 },
    );
  });
});
