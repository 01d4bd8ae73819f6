import type { MetricPath, PairedMetric, ReportInput } from '../contracts/index.ts';
import { amount, mean } from './wording.ts';

/**
 * What gates without statistics would have said, for the scorecard to set beside the verdict.
 * @param options.primary metric of "mean went up"; @param options.validity metric of "validity only", a rate where higher is
 * better; @param options.validityFloor what that gate asks for, default 0.95.
 */
export function naiveGates(
  comparisons: readonly PairedMetric[],
  options: { readonly primary: MetricPath; readonly validity: MetricPath; readonly validityFloor?: number },
): ReportInput['naiveGates'] {
  const gates: ReportInput['naiveGates'][number][] = [];
  const find = (path: MetricPath): PairedMetric | undefined =>
    comparisons.find(({ metric, pairs }) => metric === path && pairs.length > 0);
  const primary = find(options.primary);
  if (primary) {
    const gain = gainOf(primary);
    gates.push({
      name: 'mean went up',
      verdict: gain > 0 ? 'PROMOTE' : 'REJECT',
      reason: `${primary.metric} is ${amount(mean(primary.pairs, 'candidate'), primary.kind)}, was ${amount(mean(primary.pairs, 'baseline'), primary.kind)}`,
    });
  }
  const validity = find(options.validity);
  if (validity) {
    const floor = options.validityFloor ?? 0.95;
    const value = mean(validity.pairs, 'candidate');
    const holds = value >= floor;
    gates.push({
      name: 'validity only',
      verdict: holds ? 'PROMOTE' : 'REJECT',
      reason: `${validity.metric} is ${amount(value, validity.kind)}, ${holds ? 'at least' : 'less than'} ${amount(floor, validity.kind)}`,
    });
  }
  const worse = comparisons
    .filter((comparison) => comparison.pairs.length > 0 && gainOf(comparison) < 0)
    .map(({ metric }) => metric);
  if (comparisons.length > 0) {
    gates.push({
      name: 'any regression blocks',
      verdict: worse.length === 0 ? 'PROMOTE' : 'REJECT',
      reason:
        worse.length === 0
          ? `none of ${comparisons.length} metrics went down`
          : `${worse.length} of ${comparisons.length} metrics got worse, ${worse[0]} among them`,
    });
  }
  return gates;
}

function gainOf({ pairs, direction }: PairedMetric): number {
  return (mean(pairs, 'candidate') - mean(pairs, 'baseline')) * (direction === 'higher' ? 1 : -1);
}
