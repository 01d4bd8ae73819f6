import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Model, TrainingRow } from '../../src/contracts/index.ts';
import {
  conversationTokens,
  documentTokens,
  packSequences,
  prepareExamples,
  type TokenSequence,
} from '../../src/train/index.ts';
import { byteModel } from './byte-model.ts';

const shown = (sequence: TokenSequence): string =>
  byteModel.detokenize(
    [...sequence.tokens].map((id, index) =>
      (sequence.weights[index] ?? 0) === 0 ? 0 : id === 1 ? '~'.charCodeAt(0) + 6 : id,
    ),
  );
const codeOf = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
  return 'no error';
};
const answers = { name: 'sft', sequences: 'answer' } as const;
const pairs = { name: 'dpo', sequences: 'pair' } as const;
const refuse = { overlong: 'error', maxTokens: null } as const;
const conversation = [
  { role: 'system', content: 'Be kind.' },
  { role: 'user', content: 'Hi' },
  { role: 'assistant', content: 'Hello' },
  { role: 'user', content: 'Bye' },
  { role: 'assistant', content: 'So long' },
] as const;
const row = (id: string, answer: string): TrainingRow => ({
  id,
  kind: 'messages',
  messages: [
    { role: 'user', content: 'q' },
    { role: 'assistant', content: answer },
  ],
});

describe('tokens and labels of a conversation', () => {
  it('labels the contents of assistant messages and the end of turn after each, nothing else', () => {
    expect(shown(conversationTokens(byteModel, conversation, 'row'))).toBe('Hello~So long~');
  });

  it('labels the last answer alone when told so', () => {
    expect(shown(conversationTokens(byteModel, conversation, 'row', { lastOnly: true }))).toBe('So long~');
  });

  it('honours the weight of a message', () => {
    const weighted = conversation.map((message, index) =>
      index === 2 ? { ...message, weight: 0.25 } : index === 4 ? { ...message, weight: 0 } : message,
    );
    const sequence = conversationTokens(byteModel, weighted, 'row');
    expect(shown(sequence)).toBe('Hello~');
    expect(new Set(sequence.weights)).toEqual(new Set([0, 0.25]));
  });

  it('does not label what a template writes after the end of turn', () => {
    const newline: Model = {
      ...byteModel,
      render: (messages, options) =>
        messages.map((m) => `<|${m.role}|>${m.content}<|end|>\n`).join('') +
        (options?.addGenerationPrompt === false ? '' : '<|assistant|>'),
    };
    expect(shown(conversationTokens(newline, conversation, 'row'))).toBe('Hello~So long~');
  });

  it('labels a document from its second token on and ends it', () => {
    expect(shown(documentTokens(byteModel, 'abc', 'row'))).toBe('bc~');
  });

  it('refuses a template whose prompt is not a prefix of the conversation', () => {
    const broken: Model = {
      ...byteModel,
      render: (messages, options) => `${messages.length}${byteModel.render(messages, options)}`,
    };
    expect(codeOf(() => conversationTokens(broken, conversation, 'row'))).toBe('CUPEL_TRAIN_NOT_A_PREFIX');
  });

  it('refuses a template without end of turn', () => {
    const endless: Model = {
      ...byteModel,
      render: (messages, options) => byteModel.render(messages, options).replaceAll('<|end|>', ''),
    };
    expect(codeOf(() => conversationTokens(endless, conversation, 'row'))).toBe('CUPEL_TRAIN_NO_END_OF_TURN');
  });

  it('refuses an answer that smuggles in special tokens', () => {
    expect(codeOf(() => prepareExamples(byteModel, [row('a', 'yes<|end|><|user|>more')], answers, refuse))).toBe(
      'CUPEL_TRAIN_SPECIAL_TOKEN_IN_TEXT',
    );
    expect(codeOf(() => prepareExamples(byteModel, [row('a', 'yes<|pad|>')], answers, refuse))).toBe(
      'CUPEL_TRAIN_SPECIAL_TOKEN_IN_TEXT',
    );
  });

  it('takes an answer that the tokenizer writes in another normal form', () => {
    const composing: Model = { ...byteModel, tokenize: (text) => byteModel.tokenize(text.normalize('NFKC')) };
    const [example] = prepareExamples(composing, [row('a', '\ufb01ne')], answers, refuse);
    expect(example?.sequences[0]?.labelledTokens).toBe('fine'.length + 1);
  });

  it('refuses a tokenizer that is larger than the model', () => {
    expect(
      codeOf(() => prepareExamples({ ...byteModel, vocabularySize: 100 }, [row('a', 'yes')], answers, refuse)),
    ).toBe('CUPEL_TRAIN_TOKEN_OUT_OF_RANGE');
  });

  it('refuses rows without a label and data without rows', () => {
    const silent: TrainingRow = {
      id: 'a',
      kind: 'messages',
      messages: [
        { role: 'user', content: 'q' },
        { role: 'assistant', content: 'x', weight: 0 },
      ],
    };
    expect(codeOf(() => prepareExamples(byteModel, [silent], answers, refuse))).toBe('CUPEL_TRAIN_NOTHING_TO_LEARN');
    expect(codeOf(() => prepareExamples(byteModel, [], answers, refuse))).toBe('CUPEL_TRAIN_NOTHING_TO_LEARN');
  });

  it('refuses rows that are too long, or drops them and says so', () => {
    const rows = [row('long', 'x'.repeat(300)), row('short', 'x')];
    expect(codeOf(() => prepareExamples(byteModel, rows, answers, refuse))).toBe('CUPEL_TRAIN_ROW_TOO_LONG');
    const warnings: string[] = [];
    const kept = prepareExamples(
      byteModel,
      rows,
      answers,
      { overlong: 'drop', maxTokens: null },
      (event) => event.type === 'warning' && warnings.push(event.message),
    );
    expect(kept.map(({ id }) => id)).toEqual(['short']);
    expect(warnings).toEqual(['1 of 2 rows are longer than the context and were left out: long']);
  });

  it('refuses pairs whose answers are equal, and rows that are no pairs', () => {
    const pair: TrainingRow = {
      id: 'p',
      kind: 'preference',
      prompt: [{ role: 'user', content: 'q' }],
      chosen: 'a',
      rejected: 'a',
    };
    expect(codeOf(() => prepareExamples(byteModel, [pair], pairs, refuse))).toBe('CUPEL_TRAIN_PAIR_EQUAL');
    expect(codeOf(() => prepareExamples(byteModel, [row('a', 'b')], pairs, refuse))).toBe('CUPEL_TRAIN_ROW_KIND');
  });

  it('packs sequences without padding and never labels a first token', () => {
    const sequences = ['abc', 'de'].map((text) => documentTokens(byteModel, text, 'row'));
    const batch = packSequences(sequences);
    expect([...batch.offsets]).toEqual([0, 4, 7]);
    expect([...batch.labelled]).toEqual([0, 1, 1, 1, 0, 1, 1]);
    expect(byteModel.detokenize([...batch.tokens])).toBe('abcde');
  });

  it('refuses to train on what others say', () => {
    const messages = conversation.map((message, index) => (index === 1 ? { ...message, weight: 0.5 } : message));
    expect(codeOf(() => conversationTokens(byteModel, messages, 'row'))).toBe('CUPEL_TRAIN_TURN_NOT_ASSISTANT');
  });

  it('refuses tools and calls that the template does not write, and labels the calls that it writes', () => {
    const tool = { name: 'find', description: 'Finds.', parameters: {} };
    const call = { id: 'c1', name: 'find', arguments: { parcel: 3 } };
    const messages = [conversation[1], { role: 'assistant', content: '', toolCalls: [call] }] as const;
    expect(codeOf(() => conversationTokens(byteModel, conversation, 'row', { tools: [tool] }))).toBe(
      'CUPEL_TRAIN_TEMPLATE_DROPS',
    );
    expect(codeOf(() => conversationTokens(byteModel, messages, 'row'))).toBe('CUPEL_TRAIN_TEMPLATE_DROPS');
    const calling: Model = {
      ...byteModel,
      render: (written, options) =>
        (options?.tools ?? []).map(({ name }) => `<|system|>${name}<|end|>`).join('') +
        byteModel.render(
          written.map(({ toolCalls, ...message }) => ({
            ...message,
            content: `${message.content}${toolCalls === undefined ? '' : JSON.stringify(toolCalls[0])}`,
          })),
          options,
        ),
    };
    expect(shown(conversationTokens(calling, messages, 'row', { tools: [tool] }))).toBe(`${JSON.stringify(call)}~`);
  });

  it('says where the answer starts', () => {
    const sequence = conversationTokens(byteModel, conversation, 'row');
    expect(byteModel.detokenize(Array.from(sequence.tokens).slice(sequence.promptLength))).toBe('HelloByeSo long');
    expect(documentTokens(byteModel, 'abc', 'row').promptLength).toBe(0);
  });

  it('opens documents with the token that opens conversations, where one does', () => {
    const begins: Model = {
      ...byteModel,
      beginOfSequence: 0,
      render: (messages, options) => `<|pad|>${byteModel.render(messages, options)}`,
    };
    expect([...documentTokens(begins, 'a', 'row').tokens]).toEqual([0, 103, 1]);
    expect([...documentTokens(begins, 'a', 'row').weights]).toEqual([0, 1, 1]);
    // A token that opens every turn opens no sequence.
    const everywhere: Model = {
      ...begins,
      render: (messages, options) => byteModel.render(messages, options).replaceAll(/<\|(?=user|ass)/g, '<|pad|><|'),
    };
    expect([...documentTokens(everywhere, 'a', 'row').tokens]).toEqual([103, 1]);
  });
});

describe('examples of rows', () => {
  const pair: TrainingRow = {
    id: 'p',
    kind: 'preference',
    prompt: [{ role: 'user', content: 'question' }],
    chosen: 'good',
    rejected: 'not good',
  };
  const judged = { name: 'kto', sequences: 'labelled' } as const;

  it('are judged answers, and two of a preference', () => {
    const rows: TrainingRow[] = [
      { id: 'l', kind: 'labelled', prompt: pair.prompt, answer: 'well', desirable: false },
      pair,
    ];
    const examples = prepareExamples(byteModel, rows, judged, refuse);
    expect(examples.map(({ id, desirable, sequences }) => [id, desirable, sequences.map(shown).join()])).toEqual([
      ['l', false, 'well~'],
      ['p (chosen)', true, 'good~'],
      ['p (rejected)', false, 'not good~'],
    ]);
    expect(codeOf(() => prepareExamples(byteModel, [row('a', 'b')], judged, refuse))).toBe('CUPEL_TRAIN_ROW_KIND');
  });

  it('are never answers to be learned that were marked as bad', () => {
    const bad: TrainingRow = { id: 'l', kind: 'labelled', prompt: pair.prompt, answer: 'well', desirable: false };
    expect(codeOf(() => prepareExamples(byteModel, [bad], answers, refuse))).toBe('CUPEL_TRAIN_ROW_KIND');
    expect(prepareExamples(byteModel, [{ ...bad, desirable: true }], answers, refuse)).toHaveLength(1);
  });

  it('label the prompt of the first answer too, but for its first token, where the objective asks for it', () => {
    const [example] = prepareExamples(byteModel, [pair], { ...pairs, promptLabels: true }, refuse);
    const [chosen, rejected] = example?.sequences ?? [];
    expect([...(chosen?.weights ?? [])]).toEqual([0, ...Array<number>((chosen?.tokens.length ?? 0) - 1).fill(1)]);
    expect(chosen?.labelledTokens).toBe((chosen?.tokens.length ?? 0) - 1);
    expect(shown(rejected as TokenSequence)).toBe('not good~');
  });

  it('name the first bad row and count the others', () => {
    const rows = [row('a', 'x'), row('b', '<|pad|>'), row('c', 'y'), row('d', '<|end|>')];
    expect(() => prepareExamples(byteModel, rows, answers, refuse)).toThrow(
      expect.objectContaining({
        code: 'CUPEL_TRAIN_SPECIAL_TOKEN_IN_TEXT',
        where: 'row b',
        message: expect.stringMatching(/; and 1 other rows are refused: d$/) as string,
      }),
    );
  });
});

describe('rows that are too long', () => {
  const long: TrainingRow = {
    id: 'p',
    kind: 'preference',
    prompt: [{ role: 'user', content: 'abcdefghij' }],
    chosen: 'yes',
    rejected: 'no, never',
  };
  const text = (sequence: TokenSequence | undefined): string => byteModel.detokenize([...(sequence?.tokens ?? [])]);

  it('lose the start of their prompt, the same for both answers, and no label', () => {
    const [whole] = prepareExamples(byteModel, [long], pairs, refuse);
    const longest = Math.max(...(whole?.sequences ?? []).map(({ tokens }) => tokens.length));
    const [cut] = prepareExamples(byteModel, [long], pairs, { overlong: 'left', maxTokens: longest - 4 });
    expect(cut?.sequences.map(text)).toEqual(['defghijyes', 'defghijno, never']);
    expect(cut?.sequences.map(shown)).toEqual(['yes~', 'no, never~']);
    expect(cut?.cutTokens).toBe(4);
    expect(cut?.lostLabels).toBeUndefined();
    expect(
      text({
        ...(cut?.sequences[0] as TokenSequence),
        tokens: cut?.sequences[0]?.tokens.slice(cut.sequences[0].promptLength) as Int32Array,
      }),
    ).toBe('yes');
  });

  it('keep the token that opens the sequence', () => {
    const begins: Model = {
      ...byteModel,
      beginOfSequence: 0,
      render: (messages, options) => `<|pad|>${byteModel.render(messages, options)}`,
    };
    const [cut] = prepareExamples(begins, [row('a', 'yes')], answers, { overlong: 'left', maxTokens: 7 });
    expect([...(cut?.sequences[0]?.tokens ?? [])].slice(0, 3)).toEqual([0, 1, 4]);
  });

  it('are refused where no prompt would be left', () => {
    expect(
      codeOf(() => prepareExamples(byteModel, [row('a', 'yes')], answers, { overlong: 'left', maxTokens: 4 })),
    ).toBe('CUPEL_TRAIN_ROW_TOO_LONG');
  });

  it('say how many labels earlier answers lost', () => {
    const talk: TrainingRow = { id: 'a', kind: 'messages', messages: conversation };
    const [cut] = prepareExamples(byteModel, [talk], answers, { overlong: 'left', maxTokens: 18 });
    expect(shown(cut?.sequences[0] as TokenSequence)).toMatch(/^[Hello~]*So long~$/);
    expect(cut?.lostLabels).toBeGreaterThan(0);
  });

  it('are windows that overlap by one token where they are documents: every token but the first is learned once', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 2, max: 20 }), (length, maxTokens) => {
        const document = Array.from({ length }, (_, index) => String.fromCharCode(33 + index)).join('');
        const page: TrainingRow = { id: 'd', kind: 'text', text: document };
        const windows = prepareExamples(byteModel, [page], answers, { overlong: 'window', maxTokens });
        const whole = documentTokens(byteModel, document, 'row');
        const learned = windows.flatMap(({ sequences: [sequence] }) =>
          [...(sequence?.tokens ?? [])].filter((_, index) => (sequence?.weights[index] ?? 0) > 0),
        );
        expect(learned).toEqual(Array.from(whole.tokens).slice(1));
        expect(Math.max(...windows.map(({ sequences }) => sequences[0]?.tokens.length ?? 0))).toBeLessThanOrEqual(
          maxTokens,
        );
      }),
      { numRuns: 100, seed: 7 },
    );
    expect(
      codeOf(() =>
        prepareExamples(byteModel, [row('a', 'x'.repeat(30))], answers, { overlong: 'window', maxTokens: 20 }),
      ),
    ).toBe('CUPEL_TRAIN_ROW_TOO_LONG');
  });
});
