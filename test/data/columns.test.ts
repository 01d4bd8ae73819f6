import { describe, expect, it } from 'vitest';
import { digestRows, ignoredColumns, parseTrainingData, parseTrainingRows } from '../../src/data/index.ts';

const user = { role: 'user', content: 'Where is it?' };
const assistant = { role: 'assistant', content: 'Here.' };
const no = { role: 'assistant', content: 'No.' };
const rowOf = (line: object) => parseTrainingRows(JSON.stringify(line), 'rows.jsonl')[0];
const refusal = (line: object, code: string, message: RegExp) => {
  expect(() => parseTrainingRows(`{"text": "x"}\n${JSON.stringify(line)}`, 'rows.jsonl')).toThrow(
    expect.objectContaining({
      code,
      message: expect.stringMatching(message) as string,
      where: expect.stringMatching(/^rows\.jsonl:2/) as string,
    }),
  );
};

describe('columns that no format has', () => {
  it('are not read, and are counted by name', () => {
    const text = [
      { messages: [user, assistant], source: 'web', category: 'a', id_: 7 },
      { text: 'x', source: 'book', task: 'lm', level: 3, _id: 'k', 'a\nb': 1 },
      { text: 'y', source: null },
    ];
    const data = parseTrainingData(text.map((line) => JSON.stringify(line)).join('\n'), 'rows.jsonl');
    expect(data.rows.map((row) => Object.keys(row).sort().join())).toEqual([
      'id,kind,messages',
      'id,kind,text',
      'id,kind,text',
    ]);
    expect(data.ignored).toEqual([
      { name: 'source', rows: 2 },
      ...['category', 'id_', 'task', 'level', '_id', 'a\nb'].map((name) => ({ name, rows: 1 })),
    ]);
    expect(ignoredColumns(data)).toBe(
      '7 columns were not read: "source" (of 2 rows), "category" (of 1 row), "id_" (of 1 row), "task" (of 1 row), "level" (of 1 row), "_id" (of 1 row), "a\\nb" (of 1 row)',
    );
  });

  it('say nothing where there are none, and name only the first of very many', () => {
    expect(ignoredColumns(parseTrainingData('{"text": "x"}', 'rows.jsonl'))).toBe(null);
    const many = Object.fromEntries(Array.from({ length: 5000 }, (_, index) => [`column ${index}`, 1]));
    const said = ignoredColumns(parseTrainingData(JSON.stringify({ text: 'x', ...many }), 'rows.jsonl')) ?? '';
    expect(said).toMatch(/^5000 columns were not read: "column 0".*, and 4990 more$/);
  });

  it('cost little, whatever they are called', () => {
    const line = JSON.stringify({
      text: 'x',
      source: 1,
      prompt_id: 2,
      score_chosen: 3,
      rating: 4,
      topic: 5,
      ['k'.repeat(1e5)]: 6,
    });
    const start = process.cpuUsage();
    expect(parseTrainingData(`${line}\n`.repeat(100), 'rows.jsonl').ignored).toHaveLength(6);
    const small = JSON.stringify({ text: 'x', source: 1, prompt_id: 2, score_chosen: 3, rating: 4, topic: 5 });
    parseTrainingData(`${small}\n`.repeat(20_000), 'rows.jsonl');
    const { user: own, system } = process.cpuUsage(start);
    expect((own + system) / 1e6).toBeLessThan(3);
  });

  it('may be called like parts of objects', () => {
    const data = parseTrainingData('{"text": "x", "__proto__": {"id": "y"}, "constructor": 1}', 'rows.jsonl');
    expect(data.rows).toEqual([{ id: 'line-1', kind: 'text', text: 'x' }]);
    expect(data.ignored.map(({ name }) => name)).toEqual(['__proto__', 'constructor']);
  });

  it.each([
    [
      'a misspelt field',
      { messages: [user, assistant], tool: [] },
      'CUPEL_FIELD_UNKNOWN',
      /"tool"; did you mean "tools"/,
    ],
    ['a misspelt label', { prompt: 'q', completion: 'a', lable: true }, 'CUPEL_FIELD_UNKNOWN', /did you mean "label"/],
    [
      'a misspelt kind among metadata',
      { source: 'web', mesages: [] },
      'CUPEL_FIELD_UNKNOWN',
      /"mesages"; did you mean "messages"/,
    ],
    [
      'metadata alone',
      { source: 'web', question: 'q', answer: 'a' },
      'CUPEL_DATA_ROW_KIND',
      /source, question, answer/,
    ],
    [
      'a field of another format',
      { messages: [user, assistant], system: 'Be brief.' },
      'CUPEL_FIELD_UNKNOWN',
      /"system" belongs to another format/,
    ],
    ['a margin', { prompt: 'q', chosen: 'a', rejected: 'b', margin: 2 }, 'CUPEL_DATA_NOT_TRAINABLE', /"margin"/],
    ['images', { messages: [user, assistant], images: ['a.png'] }, 'CUPEL_DATA_NOT_TRAINABLE', /"images"/],
    ['tokens', { text: 'x', input_ids: [1] }, 'CUPEL_DATA_NOT_TRAINABLE', /"input_ids"/],
    ['a weight of the row', { text: 'x', weight: 2 }, 'CUPEL_DATA_NOT_TRAINABLE', /"weight"/],
    ['another system prompt', { conversations: [], system_prompt: 'x' }, 'CUPEL_DATA_NOT_TRAINABLE', /"system_prompt"/],
    [
      'a prompt of another name',
      { question: 'q', chosen: 'The a', rejected: 'The b' },
      'CUPEL_FIELD_UNKNOWN',
      /"question".*"prompt"/,
    ],
    [
      'context of an instruction',
      { instruction: 'q', context: 'c', output: 'a' },
      'CUPEL_FIELD_UNKNOWN',
      /"context".*"input"/,
    ],
    [
      'an output of another name',
      { instruction: 'q', context: '', response: 'a' },
      'CUPEL_FIELD_UNKNOWN',
      /"response".*"output"/,
    ],
  ] as const)('are refused where they mean something: %s', (_, line, code, message) => {
    refusal(line, code, message);
  });
});

describe('what datasets of others hold', () => {
  it('null is nothing, at the row and in its messages', () => {
    const nothing = { weight: null, name: null, tool_calls: null, tool_call_id: null };
    const line = {
      messages: [
        { ...user, ...nothing },
        { ...nothing, role: 'assistant', content: [{ type: 'text', text: 'Here.', image_url: null }] },
      ],
      tools: null,
      prompt: null,
      chosen: null,
      label: null,
      id: null,
      tags: null,
      images: null,
      parallel_tool_calls: null,
    };
    expect(rowOf(line)).toEqual({ id: 'line-1', kind: 'messages', messages: [user, assistant] });
    refusal({ text: null }, 'CUPEL_DATA_ROW_KIND', /"text" is null/);
  });

  it('numbers are ids, and one text is a tag', () => {
    expect(rowOf({ id: 7, tags: 'short', text: 'x' })).toEqual({ id: '7', tags: ['short'], kind: 'text', text: 'x' });
    expect(() => parseTrainingRows('{"id": 7, "text": "x"}\n{"id": "7", "text": "y"}', 'rows.jsonl')).toThrow(
      expect.objectContaining({ code: 'CUPEL_DATA_DUPLICATE_ID' }),
    );
  });

  it('a file may begin with a byte order mark', () => {
    expect(parseTrainingRows('\uFEFF{"text": "x"}\r\n{"text": "y"}\r\n', 'rows.jsonl')).toHaveLength(2);
    expect(parseTrainingRows('\uFEFF[{"text": "x"}]', 'rows.json')).toHaveLength(1);
  });

  it('a prompt beside messages that hold it is not another kind of row', () => {
    const data = parseTrainingData(JSON.stringify({ prompt: user.content, messages: [user, assistant] }), 'rows.jsonl');
    expect(data.rows).toEqual([{ id: 'line-1', kind: 'messages', messages: [user, assistant] }]);
    expect(data.ignored).toEqual([{ name: 'prompt', rows: 1 }]);
    refusal({ prompt: 'Something else', messages: [user, assistant] }, 'CUPEL_DATA_ROW_KIND', /messages and prompt/);
  });

  it('whole conversations as answers, with the prompt and the messages once more', () => {
    const pair = { kind: 'preference', prompt: [user], chosen: 'Here.', rejected: 'No.' };
    const whole = { chosen: [user, assistant], rejected: [user, no] };
    expect(rowOf({ prompt: user.content, ...whole, messages: [user, assistant], score_chosen: 8 })).toMatchObject(pair);
    expect(rowOf({ prompt: [user], ...whole })).toMatchObject(pair);
    refusal({ prompt: 'Something else', ...whole }, 'CUPEL_DATA_ROW_KIND', /one assistant message/);
    refusal({ ...whole, messages: [user, no] }, 'CUPEL_DATA_ROW_KIND', /more than one/);
  });

  it('a text that only joins the others', () => {
    const text = '### Instruction:\nTranslate.\n\n### Input:\nx\n\n### Response:\ny';
    expect(rowOf({ instruction: 'Translate.', input: 'x', output: 'y', text })).toMatchObject({ kind: 'messages' });
    refusal(
      { instruction: 'Translate.', input: 'x', output: 'z', text },
      'CUPEL_DATA_ROW_KIND',
      /instruction and text/,
    );
  });

  it('conversations of messages with roles, and of turns of sides', () => {
    const data = parseTrainingData(JSON.stringify({ conversations: [user, assistant], topic: 'x' }), 'rows.jsonl');
    expect(data.rows).toEqual([{ id: 'line-1', kind: 'messages', messages: [user, assistant] }]);
    expect([data.formats, data.ignored]).toEqual([{ messages: 1 }, [{ name: 'topic', rows: 1 }]]);
    refusal({ conversations: [user, assistant], messages: [user, no] }, 'CUPEL_DATA_ROW_KIND', /more than one/);
    refusal({ conversation: [user, assistant] }, 'CUPEL_FIELD_UNKNOWN', /did you mean "conversations"/);
  });

  it('weights of ShareGPT turns', () => {
    const conversations = [
      { from: 'system', value: 's', weight: null },
      { from: 'human', value: 'q', weight: 0 },
      { from: 'gpt', value: 'a', weight: 0 },
      { from: 'human', value: 'q', weight: null },
      { from: 'gpt', value: 'b', weight: 1 },
    ];
    expect(rowOf({ conversations })).toMatchObject({
      messages: [
        { role: 'system' },
        { role: 'user' },
        { content: 'a', weight: 0 },
        { role: 'user' },
        { content: 'b', weight: 1 },
      ],
    });
  });

  it('half of a character that was cut is refused, wherever it stands', () => {
    refusal({ text: 'cut \ud83d' }, 'CUPEL_DATA_NOT_TRAINABLE', /half of a character.*"cut /);
    refusal({ messages: [user, { role: 'assistant', content: '\udc00' }] }, 'CUPEL_DATA_NOT_TRAINABLE', /half/);
    expect(rowOf({ text: 'whole \ud83d\ude00', note: '\ud83d' })).toMatchObject({ text: 'whole \u{1f600}' });
  });

  it('what is nested without end is refused, and crashes nothing', () => {
    const deep = (open: string, close: string) => `${open.repeat(50_000)}${close.repeat(50_000)}`;
    for (const line of [
      `{"text": ${deep('[', ']')}}`,
      `{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "tools": ${JSON.stringify(deep('[', ']'))}}`,
      `{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": ${JSON.stringify(`{"a": ${deep('[', ']')}}`)}}}]}]}`,
    ]) {
      expect(() => digestRows(parseTrainingRows(line, 'rows.jsonl'))).toThrow(
        expect.objectContaining({
          message: expect.stringMatching(/nested deeper/) as string,
          where: expect.stringMatching(/^rows\.jsonl:1/) as string,
        }),
      );
    }
  });
});
