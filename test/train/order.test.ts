import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { replayOrder, stepOrder } from '../../src/train/order.ts';
import { groupByTokens, packSequences } from '../../src/train/packing.ts';

const walk = fc.record({
  items: fc.integer({ min: 1, max: 40 }),
  epochs: fc.integer({ min: 1, max: 4 }),
  batchSize: fc.integer({ min: 1, max: 12 }),
  order: fc.constantFrom('shuffle' as const, 'file' as const),
  seed: fc.nat(),
});

describe('the order of a training', () => {
  it('takes every example once an epoch, in steps that are full but for the last of an epoch', () => {
    fc.assert(
      fc.property(walk, ({ items, epochs, batchSize, order, seed }) => {
        const steps = stepOrder(items, { epochs, batchSize, order, maxSteps: null }, seed);
        const perEpoch = Math.ceil(items / batchSize);
        expect(steps).toHaveLength(epochs * perEpoch);
        for (let epoch = 0; epoch < epochs; epoch++) {
          const own = steps.slice(epoch * perEpoch, (epoch + 1) * perEpoch);
          expect(own.flat().sort((a, b) => a - b)).toEqual(Array.from({ length: items }, (_, index) => index));
          expect(own.slice(0, -1).every(({ length }) => length === batchSize)).toBe(true);
        }
      }),
    );
  });

  it('begins the same way whatever the number of steps', () => {
    fc.assert(
      fc.property(walk, fc.integer({ min: 1, max: 30 }), ({ items, epochs, batchSize, order, seed }, maxSteps) => {
        const all = stepOrder(items, { epochs, batchSize, order, maxSteps: null }, seed);
        expect(stepOrder(items, { epochs, batchSize, order, maxSteps }, seed)).toEqual(all.slice(0, maxSteps));
      }),
    );
  });

  it('replays from any number of rows', () => {
    expect(replayOrder(300_000, 2, 2, 'file', 1)).toEqual([
      [0, 1],
      [2, 3],
    ]);
  });

  it('replays every row once before any comes again', () => {
    fc.assert(
      fc.property(walk, fc.integer({ min: 0, max: 5 }), fc.integer({ min: 0, max: 20 }), (one, perStep, steps) => {
        const replayed = replayOrder(one.items, perStep, steps, one.order, one.seed);
        expect(replayed.map(({ length }) => length)).toEqual(Array.from({ length: steps }, () => perStep));
        const flat = replayed.flat();
        for (let start = 0; start < flat.length; start += one.items) {
          const pass = flat.slice(start, start + one.items);
          expect(new Set(pass).size).toBe(pass.length);
        }
      }),
    );
  });
});

const sequence = fc.integer({ min: 2, max: 30 }).chain((length) =>
  fc.integer({ min: 1, max: length - 1 }).map((labelledTokens) => ({
    tokens: Int32Array.from({ length }, (_, index) => index),
    weights: Float64Array.from({ length }, (_, index) => (index >= length - labelledTokens ? 1 : 0)),
    labelledTokens,
    promptLength: length - labelledTokens,
  })),
);
const examples = fc.array(
  fc.array(sequence, { minLength: 1, maxLength: 2 }).map((sequences) => ({ example: { sequences } })),
  { minLength: 1, maxLength: 12 },
);

describe('parts of a step', () => {
  it('hold every example in order, within both limits or alone, and no two that would fit one', () => {
    fc.assert(
      fc.property(examples, fc.integer({ min: 1, max: 90 }), fc.integer({ min: 1, max: 60 }), (items, most, labels) => {
        const groups = groupByTokens(items, most, labels);
        expect(groups.flat()).toEqual(items);
        const size = (part: typeof items): [tokens: number, labelled: number] => {
          const all = part.flatMap(({ example }) => example.sequences);
          const sum = (values: number[]): number => values.reduce((total, value) => total + value, 0);
          return [sum(all.map(({ tokens }) => tokens.length)), sum(all.map(({ labelledTokens }) => labelledTokens))];
        };
        const fits = (part: typeof items): boolean => size(part)[0] <= most && size(part)[1] <= labels;
        for (const [index, group] of groups.entries()) {
          expect(group.length === 1 || fits(group)).toBe(true);
          const [next] = groups[index + 1] ?? [];
          if (next !== undefined) expect(fits([...group, next])).toBe(false);
        }
      }),
    );
  });

  it('stand one after another without padding', () => {
    fc.assert(
      fc.property(fc.array(sequence, { minLength: 1, maxLength: 6 }), (sequences) => {
        const { tokens, offsets, labelled } = packSequences(sequences);
        expect([...offsets]).toEqual(
          sequences.reduce<number[]>((ends, one) => [...ends, (ends.at(-1) ?? 0) + one.tokens.length], [0]),
        );
        expect([...tokens]).toEqual(sequences.flatMap((one) => [...one.tokens]));
        expect([...labelled]).toEqual(
          sequences.flatMap(({ weights }) => Array.from(weights, (weight) => Number(weight > 0))),
        );
      }),
    );
  });
});
