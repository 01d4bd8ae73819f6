import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import native from '../../../engines/native/index.ts';
import type { Completion, GenerateRequest, Message, Model, ScoreResult } from '../../../src/contracts/index.ts';
import {
  cutAtStops,
  logLikelihoodTokens,
  promptTokens,
  rollingTokens,
  type LmEvalVocabulary,
  type TokenPair,
} from '../../../src/run/lm-eval-requests.ts';

// What lm-eval 0.4.13 asked and transformers 5.23.0 (torch 2.15.0, f32) answered: fixtures/reference/engine/README.md.
const folder = join(import.meta.dirname, '../../../fixtures/reference/engine/lmeval');
const tolerance = 1e-3;

interface PairRow {
  readonly kind: 'pair';
  readonly task: string;
  readonly context: string;
  readonly contextTokens: number;
  readonly continuations: readonly { text: string; ids: number[]; logLikelihood: number; isGreedy: boolean }[];
  readonly messages?: readonly Message[];
}
interface RollingRow {
  readonly kind: 'rolling';
  readonly text: string;
  readonly tokens?: number;
  /** Context length, continuation length, first and last token of each window. */
  readonly windows?: readonly (readonly [number, number, number, number])[];
  readonly logLikelihood: number;
}
interface GenerateRow {
  readonly kind: 'generate';
  readonly task?: string;
  readonly context: string;
  readonly contextTokens?: number;
  readonly contextIds?: number[];
  readonly until: readonly string[];
  readonly maxTokens: number;
  readonly output: string;
  readonly messages?: readonly Message[];
}
interface EdgeRow {
  readonly kind: 'pair';
  readonly context: string;
  readonly continuation: string;
  readonly contextIds: number[];
  readonly continuationIds: number[];
  readonly logLikelihood: number;
  readonly isGreedy: boolean;
}

async function rows<Row>(file: string): Promise<Row[]> {
  const text = await readFile(join(folder, file), 'utf8');
  return text.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as Row]));
}

const requests = await rows<PairRow | RollingRow | GenerateRow>('requests.jsonl');
const edges = await rows<EdgeRow | RollingRow | GenerateRow>('edges.jsonl');
const ofKind = <Row extends { kind: string }, Kind extends Row['kind']>(
  list: readonly Row[],
  kind: Kind,
): Extract<Row, { kind: Kind }>[] => list.filter((row): row is Extract<Row, { kind: Kind }> => row.kind === kind);

let model: Model;
let vocabulary: LmEvalVocabulary;

beforeAll(async () => {
  model = await native.open({ id: 'lm-eval', path: join(folder, 'model') }, { threads: 2, weights: 'f32' });
  vocabulary = { tokenize: (text) => model.tokenize(text), prefixToken: 0, maxLength: model.contextLength };
});
afterAll(() => model.close());

const total = (result: ScoreResult | undefined): number =>
  (result?.logProbabilities ?? [NaN]).reduce((sum, value) => sum + value, 0);

/** The largest of the distances, which must all be numbers. */
function worst(distances: readonly number[]): number {
  expect(distances.length).toBeGreaterThan(0);
  expect(distances.every(Number.isFinite)).toBe(true);
  return Math.max(...distances);
}

async function rolling(row: RollingRow): Promise<number> {
  const scored = await model.score(rollingTokens(vocabulary, row.text));
  return scored.reduce((sum, result) => sum + total(result), 0);
}

async function outputs(
  list: readonly GenerateRow[],
  stops: (row: GenerateRow) => readonly string[],
): Promise<string[]> {
  const asked = list.map((row, index): GenerateRequest => ({
    id: String(index),
    prompt: { ids: promptTokens(vocabulary, row.context, row.maxTokens) },
    maxTokens: row.maxTokens,
    stop: stops(row),
  }));
  const found: Completion[] = [];
  for await (const completion of model.generate(asked)) found.push(completion);
  expect(found.filter(({ error }) => error !== undefined)).toEqual([]);
  const texts = new Map(found.map(({ id, text }) => [id, text]));
  return list.map((row, index) => cutAtStops(texts.get(String(index)) ?? '', row.until));
}

describe('requests as lm-eval makes them', () => {
  it('have its tokens', () => {
    for (const { context, contextTokens, continuations } of ofKind(requests, 'pair')) {
      for (const { text, ids } of continuations) {
        const pair = logLikelihoodTokens(vocabulary, context, text);
        expect(pair.continuationIds).toEqual(ids);
        expect(pair.contextIds).toHaveLength(
          Math.min(Math.max(contextTokens, 1), vocabulary.maxLength + 1 - ids.length),
        );
      }
    }
    for (const { text, tokens } of ofKind(requests, 'rolling')) {
      const scored = rollingTokens(vocabulary, text).flatMap(({ continuationIds }) => continuationIds);
      expect(scored).toEqual(model.tokenize(text));
      expect(scored).toHaveLength(tokens ?? NaN);
    }
    for (const { context, contextTokens, maxTokens } of ofKind(requests, 'generate')) {
      const room = vocabulary.maxLength - maxTokens;
      expect(promptTokens(vocabulary, context, maxTokens)).toHaveLength(Math.min(contextTokens ?? NaN, room));
    }
  });

  it('have its tokens at the edges: no context, white space before the boundary, texts beyond the window', () => {
    for (const row of ofKind(edges, 'pair')) {
      const { contextIds, continuationIds } = row;
      expect(logLikelihoodTokens(vocabulary, row.context, row.continuation)).toEqual({ contextIds, continuationIds });
    }
    const shape = ({ contextIds, continuationIds }: TokenPair): unknown[] => [
      contextIds.length,
      continuationIds.length,
      contextIds[0],
      continuationIds.at(-1),
    ];
    for (const { text, windows } of ofKind(edges, 'rolling'))
      expect(rollingTokens(vocabulary, text).map(shape)).toEqual(windows);
    for (const { context, contextIds, maxTokens } of ofKind(edges, 'generate'))
      expect(promptTokens(vocabulary, context, maxTokens)).toEqual(contextIds);
    expect(rollingTokens(vocabulary, '')).toEqual([]);
  });

  it('are refused where nothing can be scored or generated', () => {
    const codeOf = (work: () => unknown): unknown => {
      try {
        work();
      } catch (error) {
        return (error as { code?: unknown }).code;
      }
      return 'no error';
    };
    expect(codeOf(() => logLikelihoodTokens(vocabulary, 'Ticket:', ''))).toBe('CUPEL_RUN_SCORE_INVALID');
    expect(codeOf(() => logLikelihoodTokens(vocabulary, 'Ticket:', ' x'.repeat(400)))).toBe(
      'CUPEL_RUN_WINDOW_EXCEEDED',
    );
    expect(codeOf(() => promptTokens(vocabulary, 'Ticket:', 192))).toBe('CUPEL_RUN_WINDOW_EXCEEDED');
  });

  it('put the prefix token before every text only where the tokenizer does', () => {
    const prefixed = { ...vocabulary, addedPrefix: '<s>' };
    const plain = logLikelihoodTokens(vocabulary, 'Ticket:', ' refund');
    expect(logLikelihoodTokens(prefixed, 'Ticket:', ' refund')).toEqual({
      contextIds: [0, ...plain.contextIds],
      continuationIds: plain.continuationIds,
    });
    expect(logLikelihoodTokens(prefixed, '<s>Ticket:', ' refund').contextIds).toEqual([0, ...plain.contextIds]);
    expect(logLikelihoodTokens(prefixed, '', ' refund').contextIds).toEqual([0]);
    expect(rollingTokens(prefixed, 'Ticket:')[0]?.continuationIds[0]).toBe(0);
    expect(promptTokens(prefixed, 'Ticket:', 8)[0]).toBe(0);
  });
});

describe('answers to lm-eval', () => {
  it('are its log-likelihoods, and greedy where its are', async () => {
    const asked = ofKind(requests, 'pair').flatMap(({ context, continuations }) =>
      continuations.map((expected) => ({ expected, pair: logLikelihoodTokens(vocabulary, context, expected.text) })),
    );
    expect(asked.length).toBeGreaterThan(300);
    const scored = await model.score(asked.map(({ pair }) => pair));
    const distances = asked.map(({ expected }, index) => Math.abs(total(scored[index]) - expected.logLikelihood));
    expect(worst(distances)).toBeLessThan(tolerance);
    expect(scored.map(({ isGreedy }) => isGreedy.every(Boolean))).toEqual(
      asked.map(({ expected }) => expected.isGreedy),
    );
  });

  it('are its log-likelihoods at the edges', async () => {
    const asked = ofKind(edges, 'pair');
    const scored = await model.score(
      asked.map(({ context, continuation }) => logLikelihoodTokens(vocabulary, context, continuation)),
    );
    const distances = asked.map(({ logLikelihood }, index) => Math.abs(total(scored[index]) - logLikelihood));
    expect(worst(distances)).toBeLessThan(tolerance);
    expect(scored.map(({ isGreedy }) => isGreedy.every(Boolean))).toEqual(asked.map(({ isGreedy }) => isGreedy));
  });

  it('are its rolling log-likelihoods, within and beyond the window', async () => {
    const asked = [...ofKind(requests, 'rolling'), ...ofKind(edges, 'rolling')];
    const distances = [];
    for (const row of asked) distances.push(Math.abs((await rolling(row)) - row.logLikelihood));
    expect(worst(distances)).toBeLessThan(tolerance);
  });

  it.each(['', '__chat'])('are its texts%s', async (variant) => {
    const asked = ofKind(requests, 'generate').filter(({ task }) => task?.endsWith('__chat') === (variant !== ''));
    expect(asked.length).toBeGreaterThan(20);
    expect(await outputs(asked, ({ until }) => until)).toEqual(asked.map(({ output }) => output));
  });

  it('are its texts at the edges: cut prompts, stop texts across tokens, no stop text', async () => {
    const asked = ofKind(edges, 'generate');
    expect(await outputs(asked, ({ until }) => until)).toEqual(asked.map(({ output }) => output));
  });

  it('start from its chat prompts', () => {
    const asked = [...ofKind(requests, 'pair'), ...ofKind(requests, 'generate')].filter(({ messages }) => messages);
    expect(asked.length).toBeGreaterThan(60);
    for (const { messages = [], context } of asked) expect(model.render(messages)).toBe(context);
  });
});
