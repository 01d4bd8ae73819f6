import { stepCurveSvg } from './step-curve.ts';

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

/** Loss over steps as a line; null with fewer than two points. @param chosen step whose weights were kept */
export function lossCurveSvg(losses: readonly number[], chosen: number | null = null): string | null {
  return stepCurveSvg({
    title: 'loss',
    points: lossBuckets(losses, 240).map(({ from, to, mean }) => ({ step: (from + to) / 2, value: mean })),
    steps: losses.length,
    chosen,
    dots: false,
    positive: losses.every((loss) => !(loss < 0)),
  });
}
