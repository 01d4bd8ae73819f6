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
    expect(codeOf(() => prepareExamples(byteModel, [row('a', 'yes<|end|><|user|>more')], 'answer', 'error'))).toBe(
      'CUPEL_TRAIN_SPECIAL_TOKEN_IN_TEXT',
    );
    expect(codeOf(() => prepareExamples(byteModel, [row('a', 'yes<|pad|>')], 'answer', 'error'))).toBe(
      'CUPEL_TRAIN_SPECIAL_TOKEN_IN_TEXT',
    );
  });

  it('refuses a tokenizer that is larger than the model', () => {
    expect(
      codeOf(() => prepareExamples({ ...byteModel, vocabularySize: 100 }, [row('a', 'yes')], 'answer', 'error')),
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
    expect(codeOf(() => prepareExamples(byteModel, [silent], 'answer', 'error'))).toBe('CUPEL_TRAIN_NOTHING_TO_LEARN');
    expect(codeOf(() => prepareExamples(byteModel, [], 'answer', 'error'))).toBe('CUPEL_TRAIN_NOTHING_TO_LEARN');
  });

  it('refuses rows that are too long, or drops them and says so', () => {
    const rows = [row('long', 'x'.repeat(300)), row('short', 'x')];
    expect(codeOf(() => prepareExamples(byteModel, rows, 'answer', 'error'))).toBe('CUPEL_TRAIN_ROW_TOO_LONG');
    const warnings: string[] = [];
    const kept = prepareExamples(
      byteModel,
      rows,
      'answer',
      'drop',
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
    expect(codeOf(() => prepareExamples(byteModel, [pair], 'pair', 'error'))).toBe('CUPEL_TRAIN_PAIR_EQUAL');
    expect(codeOf(() => prepareExamples(byteModel, [row('a', 'b')], 'pair', 'error'))).toBe('CUPEL_TRAIN_ROW_KIND');
  });

  it('packs sequences without padding and never labels a first token', () => {
    const sequences = ['abc', 'de'].map((text) => documentTokens(byteModel, text, 'row'));
    const batch = packSequences(sequences);
    expect([...batch.offsets]).toEqual([0, 4, 7]);
    expect([...batch.labelled]).toEqual([0, 1, 1, 1, 0, 1, 1]);
    expect(byteModel.detokenize([...batch.tokens])).toBe('abcde');
  });
});
