import type { ReportInput } from '../../../src/contracts/index.ts';
import { formatCount, formatValue } from '../../lib/format.ts';
import { lossBuckets, lossCurveSvg } from '../charts/loss-curve.ts';

/** How the checkpoint came to be. Null for one that was not trained here. */
export function trainingView(input: ReportInput): object | null {
  const { training } = input;
  if (training === null) return null;
  const buckets = lossBuckets(training.losses, 10);
  return {
    trainer: training.trainer,
    parent: training.parent,
    digest: /^(sha256:)?[0-9a-f]{40,}$/.test(training.parent),
    steps: formatCount(training.steps),
    tokens: formatCount(training.trainedTokens),
    curveSvg: lossCurveSvg(training.losses),
    rows: buckets.map((bucket) => ({
      steps:
        bucket.from === bucket.to
          ? formatCount(bucket.from)
          : `${formatCount(bucket.from)} to ${formatCount(bucket.to)}`,
      mean: formatValue(bucket.mean, 'mean'),
    })),
  };
}
