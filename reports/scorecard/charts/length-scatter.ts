import type { LengthControlReport } from '../../../src/contracts/index.ts';
import { element, percentAlong } from '../../lib/markup.ts';
import { paddedRange } from './scale.ts';
import { plotFrame } from './plot-frame.ts';

/** Points that are drawn; more would only blacken the picture. */
const MOST_POINTS = 500;

/** Preference against length difference. Every k-th point when there are very many; null without points. */
export function lengthScatterSvg(points: LengthControlReport['points']): string | null {
  const usable = points.filter((point) => Number.isFinite(point.lengthDifference) && Number.isFinite(point.preference));
  if (usable.length === 0) return null;
  const step = Math.ceil(usable.length / MOST_POINTS);
  const drawn = usable.filter((_, index) => index % step === 0);
  const x = paddedRange([...drawn.map((point) => point.lengthDifference), 0], 0.06);
  const shares = drawn.every((point) => point.preference >= 0 && point.preference <= 1);
  const y = shares ? ([-0.06, 1.06] as const) : paddedRange([...drawn.map((point) => point.preference), 0], 0.06);
  const middle = shares ? 0.5 : 0;
  const level = percentAlong(middle, y[1], y[0]);
  const zero = percentAlong(0, x[0], x[1]);
  return plotFrame(
    { range: x, title: 'length difference (this checkpoint − baseline)', label: String, count: 5 },
    {
      range: y,
      title: 'preference for this checkpoint',
      label: (value) => String(Number(value.toPrecision(3))),
      count: 4,
    },
    `Preference against length difference, ${drawn.length} comparisons. The table below has the figures.`,
    [
      element('line', { x1: '0', x2: '100%', y1: level, y2: level, class: 'zero' }),
      element('line', { x1: zero, x2: zero, y1: '0', y2: '100%', class: 'zero' }),
      ...drawn.map((point) =>
        element('circle', {
          cx: percentAlong(point.lengthDifference, x[0], x[1]),
          cy: percentAlong(point.preference, y[1], y[0]),
          r: 3.5,
          class: 'point',
        }),
      ),
    ],
  );
}
