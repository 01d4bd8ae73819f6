import { type LogLine, scalarsOf } from './training-log.ts';

/** A metric as MLflow's REST API takes it; the file store holds the same. */
interface MlflowMetric {
  readonly key: string;
  readonly value: number;
  /** Milliseconds since 1970. */
  readonly timestamp: number;
  readonly step: number;
}

export function metricsOf(line: LogLine): MlflowMetric[] {
  const timestamp = Date.parse(line.time);
  return scalarsOf(line).map(([key, value]) => ({ key, value, timestamp, step: line.step }));
}
