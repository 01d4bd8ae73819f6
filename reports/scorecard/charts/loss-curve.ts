import { element } from '../../lib/markup.ts';
import { paddedRange } from './scale.ts';
import { plotFrame } from './plot-frame.ts';

export interface LossBucket {
  readonly from: number;
  readonly to: number;
  readonly mean: number;
}

/** Means of at most `count` runs of neighbouring steps; steps count from 1, losses that are no numbers are left out. */
export function lossBuckets(losses: readonly number[], count: number): LossBucket[] {
  const size = Math.ceil(losses.length / count);
  const buckets: LossBucket[] = [];
  for (let start = 0; start < losses.length; start += size) {
    const slice = losses.slice(start, start + size);
    const finite = slice.filter(Number.isFinite);
    if (finite.length === 0) continue;
    buckets.push({
      from: start + 1,
      to: start + slice.length,
      mean: finite.reduce((a, b) => a + b, 0) / finite.length,
    });
  }
  return buckets;
}

/** Loss over steps as a line; null with fewer than two points. */
export function lossCurveSvg(losses: readonly number[]): string | null {
  const points = lossBuckets(losses, 240);
  if (points.length < 2) return null;
  const [low, high] = paddedRange(
    points.map((point) => point.mean),
    0.06,
  );
  const x = [1, losses.length] as const;
  const y = [low < 0 ? low : Math.max(0, low), high] as const;
  const position = (point: LossBucket): string => {
    const along = (((point.from + point.to) / 2 - x[0]) / (x[1] - x[0])) * 1000;
    const down = ((y[1] - point.mean) / (y[1] - y[0])) * 1000;
    return `${along.toFixed(1)},${down.toFixed(1)}`;
  };
  const line = element(
    'svg',
    { viewBox: '0 0 1000 1000', preserveAspectRatio: 'none', width: '100%', height: '100%' },
    element('polyline', {
      points: points.map(position).join(' '),
      class: 'line',
      'vector-effect': 'non-scaling-stroke',
    }),
  );
  return plotFrame(
    { range: x, title: 'step', label: String, count: 5 },
    { range: y, title: 'loss', label: (value) => String(Number(value.toPrecision(3))), count: 4 },
    `Training loss over ${losses.length} steps, from ${points[0]?.mean.toFixed(3)} to ${points.at(-1)?.mean.toFixed(3)}. The table below has the figures.`,
    [line],
  );
}
