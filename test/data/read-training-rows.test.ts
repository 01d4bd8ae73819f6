import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { digestRows, formatTrainingRows, parseTrainingRows, readTrainingRows } from '../../src/data/index.ts';
import { digestOf, isCupelError } from '../../src/kit/index.ts';

const good = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}';

describe('training rows', () => {
  it('come in three kinds', () => {
    const text = [
      good,
      '{"id": "p", "prompt": "q", "chosen": "a", "rejected": "b", "tags": ["urgency"]}',
      '',
      '{"prompt": [{"role": "user", "content": "q"}], "chosen": [{"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "b"}]}',
      '{"text": "once"}',
    ].join('\n');
    expect(parseTrainingRows(text, 'rows.jsonl')).toEqual([
      {
        id: 'line-1',
        kind: 'messages',
        messages: [
          { role: 'user', content: 'q' },
          { role: 'assistant', content: 'a' },
        ],
      },
      {
        id: 'p',
        kind: 'preference',
        prompt: [{ role: 'user', content: 'q' }],
        chosen: 'a',
        rejected: 'b',
        tags: ['urgency'],
      },
      { id: 'line-4', kind: 'preference', prompt: [{ role: 'user', content: 'q' }], chosen: 'a', rejected: 'b' },
      { id: 'line-5', kind: 'text', text: 'once' },
    ]);
  });

  it('survive writing and reading', () => {
    const rows = parseTrainingRows(
      `${good}\n{"prompt": "q", "chosen": "a", "rejected": "b"}\n{"text": "once"}`,
      'rows.jsonl',
    );
    const again = parseTrainingRows(formatTrainingRows(rows), 'rows.jsonl');
    expect(again).toEqual(rows);
    expect(digestRows(again)).toBe(digestRows(rows));
    expect(digestRows(rows)).toBe(digestOf(rows));
    expect(digestRows([])).toBe(digestOf([]));
    expect(digestRows([...rows].reverse())).not.toBe(digestRows(rows));
  });

  it.each([
    ['no JSON', '{"text": ', 'CUPEL_JSONL_INVALID'],
    ['a list', '[1]', 'CUPEL_FIELD_INVALID'],
    ['no kind', '{"id": "x"}', 'CUPEL_DATA_ROW_KIND'],
    ['two kinds', '{"text": "a", "prompt": "q", "chosen": "a", "rejected": "b"}', 'CUPEL_DATA_ROW_KIND'],
    ['a preference without rejected', '{"prompt": "q", "chosen": "a"}', 'CUPEL_DATA_ROW_KIND'],
    ['a misspelt field', '{"mesages": []}', 'CUPEL_FIELD_UNKNOWN'],
    ['an unknown role', '{"messages": [{"role": "bot", "content": "a"}]}', 'CUPEL_FIELD_INVALID'],
    ['content that is no text', '{"messages": [{"role": "user", "content": 7}]}', 'CUPEL_FIELD_INVALID'],
    ['no messages', '{"messages": []}', 'CUPEL_FIELD_INVALID'],
    ['a user message last', '{"messages": [{"role": "user", "content": "a"}]}', 'CUPEL_DATA_EMPTY_TARGET'],
    [
      'an empty answer',
      '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}]}',
      'CUPEL_DATA_EMPTY_TARGET',
    ],
    ['an empty chosen', '{"prompt": "q", "chosen": "", "rejected": "b"}', 'CUPEL_DATA_EMPTY_TARGET'],
    ['an empty text', '{"text": ""}', 'CUPEL_DATA_EMPTY_TARGET'],
  ])('with %s are refused with file and line', (_, line, code) => {
    const text = `${`${good}\n`.repeat(16)}${line}`;
    expect(() => parseTrainingRows(text, 'rows.jsonl')).toThrow(
      expect.objectContaining({ code, where: expect.stringMatching(/^rows\.jsonl:17/) as string }),
    );
  });

  it('with the same id twice are refused, and the first place is named', () => {
    expect(() => parseTrainingRows('{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}', 'rows.jsonl')).toThrow(
      expect.objectContaining({
        code: 'CUPEL_DATA_DUPLICATE_ID',
        where: 'rows.jsonl:2',
        message: 'id "a" is also that of line 1',
      }),
    );
  });

  it('are refused where there are none, or no file', async () => {
    expect(() => parseTrainingRows('\n', 'rows.jsonl')).toThrow(
      expect.objectContaining({ code: 'CUPEL_DATA_NO_ROWS' }),
    );
    await expect(readTrainingRows('/no/such/file.jsonl')).rejects.toMatchObject({ code: 'CUPEL_FILE_MISSING' });
  });

  it('never fail with anything but a coded error', () => {
    const fragment = fc.constantFrom(
      '{',
      '}',
      '"text"',
      ':',
      '"messages"',
      '[',
      ']',
      '"role"',
      '"a"',
      ',',
      '\n',
      'null',
      '{"text": "x"}',
      '{"id": "__proto__", "text": "x"}',
      '\u2028',
    );
    fc.assert(
      fc.property(fc.array(fragment, { maxLength: 12 }), (parts) => {
        try {
          expect(parseTrainingRows(parts.join(''), 'rows.jsonl').length).toBeGreaterThan(0);
        } catch (error) {
          expect(isCupelError(error)).toBe(true);
        }
      }),
      { numRuns: 500, seed: 11 },
    );
  });
});
