import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseEvent } from '../../../trainers/trl/events.ts';

const step = { v: 1, event: 'step', step: 1, steps: 5, loss: 0.5, metrics: { grad_norm: 1 } };

describe('events of a child process', () => {
  it('reads what run_trl.py writes', () => {
    expect(parseEvent(JSON.stringify(step), 'events:1')).toEqual(step);
    const hello = { v: 1, event: 'hello', worldSize: 2, versions: { trl: null }, python: '3.11.7', device: 'cpu' };
    expect(parseEvent(JSON.stringify(hello), 'events:1')).toEqual(hello);
  });

  it.each([
    ['another version', { ...step, v: 2 }, 'event'],
    ['an unknown event', { ...step, event: 'toString' }, 'event'],
    ['a step that is no whole number', { ...step, step: 1.5 }, 'step'],
    ['a loss that is no number', { ...step, loss: null }, 'loss'],
    ['a metric that is no number', { ...step, metrics: { grad_norm: 'NaN' } }, 'metrics'],
    ['a list', [step], 'event'],
    ['null', null, 'event'],
  ])('refuses %s', (_, value, field) => {
    expect(() => parseEvent(JSON.stringify(value), 'events:1')).toThrow(`field "${field}"`);
  });

  it('never crashes on other lines', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (line) => {
        try {
          parseEvent(line, 'events:1');
        } catch (error) {
          expect(error).toMatchObject({ code: 'CUPEL_TRL_EVENTS' });
        }
      }),
    );
  });
});
