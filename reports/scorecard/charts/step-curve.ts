import { element, percentAlong } from '../../lib/markup.ts';
import { plotFrame } from './plot-frame.ts';
import { paddedRange } from './scale.ts';

export interface StepCurve {
  /** What the curve shows, e.g. `loss`. */
  readonly title: string;
  readonly points: readonly { readonly step: number; readonly value: number }[];
  /** Steps of the whole training: curves of one training share their axis. */
  readonly steps: number;
  /** Step whose weights were kept; it has a line and a label. */
  readonly chosen: number | null;
  /** Measured values are dots on the line. */
  readonly dots: boolean;
  /** Whether 0 is the least value that can be. */
  readonly positive: boolean;
}

/** A value over the steps of a training; null with fewer than two points. */
export function stepCurveSvg({ title, points, steps, chosen, dots, positive }: StepCurve): string | null {
  const usable = points.filter(({ value }) => Number.isFinite(value));
  const [first, last] = [usable[0], usable.at(-1)];
  if (first === undefined || last === undefined || usable.length < 2) return null;
  const [low, high] = paddedRange(
    usable.map(({ value }) => value),
    0.06,
  );
  const x = [1, Math.max(2, steps)] as const;
  const y = [positive && low < 0 ? 0 : low, high] as const;
  const along = (step: number): number => ((step - x[0]) / (x[1] - x[0])) * 1000;
  const down = (value: number): number => ((y[1] - value) / (y[1] - y[0])) * 1000;
  const line = element(
    'svg',
    { viewBox: '0 0 1000 1000', preserveAspectRatio: 'none', width: '100%', height: '100%' },
    element('polyline', {
      points: usable.map(({ step, value }) => `${along(step).toFixed(1)},${down(value).toFixed(1)}`).join(' '),
      class: 'line',
      'vector-effect': 'non-scaling-stroke',
    }),
  );
  const at = chosen === null ? null : percentAlong(chosen, x[0], x[1]);
  const figure = (value: number): string => String(Number(value.toPrecision(3)));
  return plotFrame(
    { range: x, title: 'step', label: String, count: 5 },
    { range: y, title, label: figure, count: 4 },
    `${title} over ${steps} steps, from ${figure(first.value)} to ${figure(last.value)}.${chosen === null ? '' : ` The weights of step ${chosen} were kept.`} The table below has the figures.`,
    [
      ...(at === null
        ? []
        : [
            element('line', { x1: at, x2: at, y1: '0', y2: '100%', class: 'zero' }),
            element('text', { x: at, y: -6, 'text-anchor': 'middle' }, 'kept'),
          ]),
      line,
      ...(dots
        ? usable.map(({ step, value }) =>
            element('circle', {
              cx: percentAlong(step, x[0], x[1]),
              cy: percentAlong(value, y[1], y[0]),
              r: step === chosen ? 5 : 3.5,
              class: 'point',
            }),
          )
        : []),
    ],
  );
}
