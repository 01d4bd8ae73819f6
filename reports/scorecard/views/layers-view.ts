import type { Estimate, Layer, LengthControlReport, ReportInput, SuiteReport } from '../../../src/contracts/index.ts';
import {
  formatCount,
  formatEstimateInterval,
  formatSeconds,
  formatSigned,
  formatValue,
  NO_VALUE,
  plural,
} from '../../lib/format.ts';
import { LAYER_WORDS, owaspTitle } from '../../lib/words.ts';
import { axisSvg } from '../charts/axis.ts';
import { intervalSvg } from '../charts/interval.ts';
import { lengthScatterSvg } from '../charts/length-scatter.ts';
import { paddedRange } from '../charts/scale.ts';
import { stackedBarSvg } from '../charts/stacked-bar.ts';

const LAYERS: readonly Layer[] = ['A', 'B', 'C', 'D', 'E'];

/** One section a layer that has suites, A to E. */
export function layersView(input: ReportInput): object[] {
  return LAYERS.flatMap((layer) => {
    const suites = input.suites.filter((suite) => suite.layer === layer);
    const lengthControl = layer === 'C' && input.lengthControl !== null ? lengthControlView(input.lengthControl) : null;
    if (suites.length === 0 && lengthControl === null) return [];
    return [
      {
        layer,
        anchor: `layer-${layer.toLowerCase()}`,
        meaning: LAYER_WORDS[layer],
        suites: suites.map((suite) => suiteView(suite, input)),
        lengthControl,
      },
    ];
  });
}

type MetricReport = SuiteReport['metrics'][number];

function suiteView(suite: SuiteReport, input: ReportInput): object {
  const references = [...new Set(suite.metrics.flatMap((metric) => Object.keys(metric.references)))];
  const hasBaseline = suite.metrics.some((metric) => metric.baseline !== null);
  const order = { primary: 0, normal: 1, detail: 2 };
  const sorted = [...suite.metrics].sort((a, b) => order[a.weight ?? 'normal'] - order[b.weight ?? 'normal']);
  const table = (metrics: readonly MetricReport[]): object | null =>
    metrics.length === 0
      ? null
      : {
          references: references,
          baseline: hasBaseline ? (input.baselineId ?? 'baseline') : null,
          rows: metrics.map((metric) => metricRow(metric, references, hasBaseline)),
          axisSvg: metrics.some((metric) => metric.kind === 'rate')
            ? axisSvg([0, 1], (value) => String(Math.round(value * 100)), 4)
            : null,
        };
  const details = sorted.filter((metric) => metric.weight === 'detail');
  return {
    id: suite.id,
    title: suite.title,
    split: suite.split,
    seconds: formatSeconds(suite.seconds),
    table: table(sorted.filter((metric) => metric.weight !== 'detail')),
    details: table(details),
    detailCount: plural(details.length, 'more metric'),
    matrix: suite.matrix === undefined ? null : matrixView(suite.matrix),
  };
}

function metricRow(metric: MetricReport, references: readonly string[], hasBaseline: boolean): object {
  const { estimate, baseline, kind } = metric;
  const all = [estimate, ...(baseline === null ? [] : [baseline])];
  const range =
    kind === 'rate'
      ? ([0, 1] as const)
      : paddedRange(
          all.flatMap((entry) => [entry.value, entry.low, entry.high]).filter((value) => value !== null),
          0.15,
        );
  return {
    title: metric.title,
    primary: metric.weight === 'primary',
    direction: metric.direction === 'higher' ? 'higher is better' : 'lower is better',
    lower: metric.direction === 'lower',
    value: formatValue(estimate.value, kind),
    interval: formatEstimateInterval(estimate, kind),
    n: formatCount(estimate.n),
    clusters: formatCount(estimate.clusters),
    errors: formatCount(estimate.errors),
    hasErrors: estimate.errors > 0,
    unscored: formatCount(estimate.unscored),
    hasUnscored: estimate.unscored > 0,
    hasBaseline,
    baseline: formatValue(baseline?.value, kind),
    baselineInterval: formatEstimateInterval(baseline, kind),
    better: betterWord(estimate, baseline, metric.direction),
    references: references.map((id) => formatValue(metric.references[id]?.value, kind)),
    chartSvg: intervalSvg(estimate, range, { tone: 'ink', baseline: baseline?.value ?? null }),
  };
}

/** A word beside the baseline's value: which way the value moved, without a claim of significance. */
function betterWord(estimate: Estimate, baseline: Estimate | null, direction: 'higher' | 'lower'): string {
  if (baseline === null || baseline.value === null || estimate.value === null) return '';
  const gain = (estimate.value - baseline.value) * (direction === 'higher' ? 1 : -1);
  return gain > 0 ? 'better now' : gain < 0 ? 'worse now' : 'same';
}

function matrixView(matrix: NonNullable<SuiteReport['matrix']>): object {
  const total = (key: 'attacks' | 'resisted' | 'broken' | 'notEstablished'): number =>
    matrix.reduce((sum, row) => sum + row[key], 0);
  const row = (
    item: string,
    title: string | null,
    counts: { attacks: number; resisted: number; broken: number; notEstablished: number },
  ): object => ({
    item: item,
    title,
    attacks: formatCount(counts.attacks),
    resisted: { count: formatCount(counts.resisted), on: counts.resisted > 0 },
    broken: { count: formatCount(counts.broken), on: counts.broken > 0 },
    notEstablished: { count: formatCount(counts.notEstablished), on: counts.notEstablished > 0 },
    chartSvg: stackedBarSvg([
      { count: counts.resisted, tone: 'good' },
      { count: counts.broken, tone: 'bad' },
      { count: counts.notEstablished, tone: 'unclear' },
    ]),
  });
  return {
    rows: matrix.map((entry) => row(entry.item, owaspTitle(entry.item), entry)),
    total: row('All', null, {
      attacks: total('attacks'),
      resisted: total('resisted'),
      broken: total('broken'),
      notEstablished: total('notEstablished'),
    }),
  };
}

function lengthControlView(report: LengthControlReport): object {
  const raw = report.winRate.value;
  const controlled = report.lengthControlled.value;
  return {
    judge: report.judge,
    calibrated: report.calibrated,
    raw: formatValue(raw, 'percent'),
    rawInterval: formatEstimateInterval(report.winRate, 'percent'),
    controlled: formatValue(controlled, 'percent'),
    controlledInterval: formatEstimateInterval(report.lengthControlled, 'percent'),
    shift: raw === null || controlled === null ? NO_VALUE : formatSigned(controlled - raw, 'percent'),
    n: formatCount(report.winRate.n),
    clusters: formatCount(report.winRate.clusters),
    inconsistent: formatCount(report.inconsistentOrders),
    coefficient: report.lengthCoefficient === null ? NO_VALUE : formatSigned(report.lengthCoefficient, 'mean'),
    scatterSvg: lengthScatterSvg(report.points),
    bins: lengthBins(report.points),
  };
}

/** The scatter as a table: fifths of the comparisons by length difference. */
function lengthBins(points: LengthControlReport['points']): object[] {
  const sorted = points
    .filter((point) => Number.isFinite(point.lengthDifference) && Number.isFinite(point.preference))
    .sort((a, b) => a.lengthDifference - b.lengthDifference);
  const count = Math.min(5, sorted.length);
  return Array.from({ length: count }, (_, index) => {
    const bin = sorted.slice(
      Math.floor((index * sorted.length) / count),
      Math.floor(((index + 1) * sorted.length) / count),
    );
    return {
      from: formatSigned(bin[0]?.lengthDifference, 'mean'),
      to: formatSigned(bin.at(-1)?.lengthDifference, 'mean'),
      n: formatCount(bin.length),
      preference: formatValue(bin.reduce((sum, point) => sum + point.preference, 0) / bin.length, 'mean'),
    };
  });
}
