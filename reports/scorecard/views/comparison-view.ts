import type { Estimate, ReportInput } from '../../../src/contracts/index.ts';
import { formatEstimateInterval, formatValue, NO_VALUE } from '../../lib/format.ts';
import { othersAhead } from '../../lib/gate-sentences.ts';
import { indexMetrics } from '../../lib/metric-index.ts';

const MOST_LEADS = 6;

/** All checkpoints of the project side by side, this one first: metrics in rows, grouped by suite; the best value of a row is marked. */
export function comparisonView(
  raw: ReportInput,
): { readonly explorer: object | null; readonly [name: string]: unknown } | null {
  if (raw.comparison.length === 0) return null;
  const input = { ...raw, comparison: ownFirst(raw) };
  const index = indexMetrics(input);
  const known = new Set(index.keys());
  const extra = [...new Set(input.comparison.flatMap((entry) => Object.keys(entry.metrics)))]
    .filter((path) => !known.has(path))
    .sort();
  const groups = input.suites.map((suite) => ({
    title: suite.title,
    layer: suite.layer,
    rows: [...index.values()]
      .filter((metric) => metric.suite === suite && metric.weight !== 'detail')
      .map((metric) => comparisonRow(input, metric.path, metric, metric.kind, metric.direction))
      .filter((row) => row.any),
  }));
  if (extra.length > 0)
    groups.push({
      title: 'Other',
      layer: 'A',
      rows: extra.map((path) => comparisonRow(input, path, { title: path, label: path }, 'mean', null)),
    });
  const ahead = othersAhead(input);
  return {
    columns: input.comparison.map((entry) => ({
      id: entry.id,
      role: entry.role,
      own: entry.id === input.checkpoint.id,
      current: entry.id === input.baselineId,
    })),
    width: input.comparison.length + 1,
    groups: groups.filter((group) => group.rows.length > 0),
    explorer: explorerStart(
      input,
      groups.flatMap((group) => group.rows.map((row) => row.label)),
      ahead.leads[0],
    ),
    compared: ahead.compared,
    leads: ahead.leads.slice(0, MOST_LEADS),
    moreLeads: Math.max(0, ahead.leads.length - MOST_LEADS),
  };
}

/** This checkpoint, what it is compared with, then the others in their order: the first columns are read on a phone. */
function ownFirst(input: ReportInput): ReportInput['comparison'] {
  const rank = (id: string): number => (id === input.checkpoint.id ? 0 : id === input.baselineId ? 1 : 2);
  return [...input.comparison].sort((a, b) => rank(a.id) - rank(b.id));
}

function comparisonRow(
  input: ReportInput,
  path: string,
  { title, label }: { readonly title: string; readonly label: string },
  kind: 'rate' | 'mean',
  direction: 'higher' | 'lower' | null,
) {
  const values = input.comparison.map((entry) => entry.metrics[path]?.value ?? null);
  const present = values.filter((value) => value !== null);
  const best =
    direction === null || present.length < 2
      ? null
      : direction === 'higher'
        ? Math.max(...present)
        : Math.min(...present);
  const bestText = best === null ? null : formatValue(best, kind);
  return {
    title: title,
    lower: direction === 'lower',
    label,
    unit: kind === 'rate' ? '%' : '',
    any: present.length > 0,
    cells: input.comparison.map((entry, column) => {
      const estimate = entry.metrics[path];
      const value = formatValue(values[column], kind);
      return {
        value,
        plain: {
          value: plain(estimate?.value, kind),
          low: plain(estimate?.low, kind),
          high: plain(estimate?.high, kind),
        },
        interval: estimate === undefined || values[column] === null ? '' : bareInterval(estimate, kind),
        best: bestText !== null && value === bestText,
        own: entry.id === input.checkpoint.id,
      };
    }),
  };
}

/** A number as the explorer reads it, rates in percent; empty where there is none. */
function plain(value: number | null | undefined, kind: 'rate' | 'mean'): string {
  return typeof value === 'number' && Number.isFinite(value)
    ? String(Number((kind === 'rate' ? value * 100 : value).toPrecision(4)))
    : '';
}

/** Where the explorer begins: the first metric upwards, across it the one on which another checkpoint leads most. */
function explorerStart(input: ReportInput, titles: readonly string[], lead: string | undefined): object | null {
  if (titles.length < 2 || input.comparison.length < 3) return null;
  const across = titles.findIndex((title, index) => index > 0 && lead?.startsWith(`${title}: `) === true);
  return { x: Math.max(1, across), y: 0 };
}

/** The interval without its unit, which the value above it already has. */
function bareInterval(estimate: Estimate, kind: 'rate' | 'mean'): string {
  const text = formatEstimateInterval(estimate, kind);
  return text === NO_VALUE ? '' : text.replace(/\s%$/, '');
}
