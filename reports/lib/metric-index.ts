import type { MetricDefinition, ReportInput, SuiteReport } from '../../src/contracts/index.ts';

export interface MetricEntry extends MetricDefinition {
  readonly path: string;
  /** The title, with that of the suite where several suites have a metric of this title. */
  readonly label: string;
  readonly suite: SuiteReport;
}

/** Metrics of a report by path (`suite/metric`), in the order of the suites. */
export function indexMetrics(input: ReportInput): ReadonlyMap<string, MetricEntry> {
  const uses = new Map<string, number>();
  for (const { title } of input.suites.flatMap((suite) => suite.metrics)) uses.set(title, (uses.get(title) ?? 0) + 1);
  const index = new Map<string, MetricEntry>();
  for (const suite of input.suites)
    for (const metric of suite.metrics) {
      const path = `${suite.id}/${metric.name}`;
      const label = (uses.get(metric.title) ?? 0) > 1 ? `${metric.title} (${suite.title})` : metric.title;
      index.set(path, { ...metric, path, label, suite });
    }
  return index;
}
