import type { Case, Suite, Validator } from '../../src/contracts/index.ts';
import { defineValidator, digestOf } from '../../src/kit/index.ts';

export function sampleCase(id: string, input: Record<string, unknown>, change: Partial<Case> = {}): Case {
  const rest = { id, input, ...change };
  return { ...rest, digest: digestOf({ ...rest, examples: undefined }) };
}

export function sampleSuite(change: Partial<Suite> = {}): Suite {
  const suite = {
    id: 'echoes',
    version: '1.0.0',
    layer: 'A' as const,
    title: 'Echoes',
    licence: 'Apache-2.0',
    task: 'generate' as const,
    prompt: {
      messages: [
        { role: 'system' as const, content: 'Say it.' },
        { role: 'user' as const, content: '{{ word }}' },
      ],
    },
    decoding: { maxTokens: 16 },
    validators: [{ use: 'same', with: {} }],
    metrics: [{ name: 'same', title: 'Same', direction: 'higher' as const, kind: 'rate' as const }],
    splits: {
      test: Array.from({ length: 12 }, (_, index) =>
        sampleCase(
          `c${String(index).padStart(2, '0')}`,
          { word: `word ${index}` },
          { target: index % 3 === 0 ? 'other' : `WORD ${index}`, cluster: `k${index % 4}`, tags: ['t'] },
        ),
      ),
    },
    references: [],
    path: 'suites/echoes',
    ...change,
  };
  return { ...suite, digest: digestOf({ ...suite, splits: undefined }) };
}

const validators: Readonly<Record<string, Validator>> = {
  same: defineValidator({
    summary: 'text equals target',
    version: '1.0.0',
    options: {},
    metrics: ['same'],
    validate: async ({ case: item, output }) => ({ same: { value: output.text === item.target ? 1 : 0 } }),
  }),
  throws: defineValidator({
    summary: 'throws on one case',
    version: '1.0.0',
    options: {},
    metrics: ['fine'],
    validate: async ({ case: item }) => {
      if (item.id === 'c03') throw new TypeError('cannot read c03');
      return { fine: { value: 1 } };
    },
  }),
  nan: defineValidator({
    summary: 'emits NaN',
    version: '1.0.0',
    options: {},
    metrics: ['nan'],
    validate: async () => ({ nan: { value: Number.NaN } }),
  }),
  stray: defineValidator({
    summary: 'emits what it does not announce',
    version: '1.0.0',
    options: {},
    metrics: ['a'],
    validate: async () => ({ b: { value: 1 } }),
  }),
  state: defineValidator({
    summary: 'reads the final state',
    version: '1.0.0',
    options: {},
    metrics: ['done'],
    validate: async ({ output }) => ({ done: { value: (output.state as { done: boolean }).done ? 1 : 0 } }),
  }),
};

export const lookup = (id: string): Validator => {
  const found = validators[id];
  if (found === undefined) throw new Error(`no validator ${id}`);
  return found;
};
