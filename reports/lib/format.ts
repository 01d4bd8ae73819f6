import type { Estimate } from '../../src/contracts/index.ts';

/** How a metric's numbers are printed: `rate` as percent, `mean` as a plain number, `percent` is percent already. */
export type NumberKind = 'rate' | 'mean' | 'percent';

/** Stands where there is no value: missing is not zero. */
export const NO_VALUE = '—';
const MINUS = '\u2212';
const THIN_SPACE = '\u202f';

function signedMinus(text: string): string {
  return text.startsWith('-') ? MINUS + text.slice(1) : text;
}

function digits(value: number): string {
  const size = Math.abs(value);
  return value.toFixed(size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 || size === 0 ? 2 : 3);
}

function isNumber(value: number | null | undefined): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

/** A value with its unit: rate 0.482 → `48.2 %`. */
export function formatValue(value: number | null | undefined, kind: NumberKind): string {
  if (!isNumber(value)) return NO_VALUE;
  return kind === 'mean' ? signedMinus(digits(value)) : `${bare(value, kind)}${THIN_SPACE}%`;
}

function bare(value: number, kind: NumberKind): string {
  if (kind === 'mean') return signedMinus(digits(value));
  const text = (kind === 'rate' ? value * 100 : value).toFixed(1);
  return signedMinus(text === '-0.0' ? '0.0' : text);
}

/** `43.1 to 51.7 %`. */
export function formatInterval(low: number | null, high: number | null, kind: NumberKind): string {
  if (!isNumber(low) || !isNumber(high)) return NO_VALUE;
  return `${bare(low, kind)} to ${bare(high, kind)}${kind === 'mean' ? '' : `${THIN_SPACE}%`}`;
}

export function formatEstimateInterval(estimate: Estimate | null, kind: NumberKind): string {
  return estimate === null ? NO_VALUE : formatInterval(estimate.low, estimate.high, kind);
}

/** A difference with its sign, rates in percentage points: `+47.5`. */
export function formatSigned(value: number | null | undefined, kind: NumberKind): string {
  if (!isNumber(value)) return NO_VALUE;
  const text = bare(value, kind);
  return value > 0 && !/^[0.]+$/.test(text) ? `+${text}` : text;
}

/** `+43.1 to +51.7`. */
export function formatSignedInterval(low: number | null, high: number | null, kind: NumberKind): string {
  if (!isNumber(low) || !isNumber(high)) return NO_VALUE;
  return `${formatSigned(low, kind)} to ${formatSigned(high, kind)}`;
}

/** Unit of a difference. */
export function differenceUnit(kind: NumberKind): string {
  return kind === 'mean' ? '' : 'points';
}

/** p values: three decimals, `< 0.001` below. */
export function formatP(value: number | null): string {
  if (!isNumber(value)) return NO_VALUE;
  return value < 0.001 ? `<${THIN_SPACE}0.001` : value.toFixed(3);
}

/** Whole numbers with thin spaces: `19 400 000`. */
export function formatCount(value: number | null | undefined): string {
  if (!isNumber(value)) return NO_VALUE;
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, THIN_SPACE);
}

export function formatSeconds(seconds: number | null): string | null {
  if (!isNumber(seconds)) return null;
  return seconds < 10 ? `${seconds.toFixed(1)} s` : `${Math.round(seconds)} s`;
}

/** `1 case`, `2 cases`. */
export function plural(count: number, one: string, many = `${one}s`): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}
