import type { PairedMetric } from '../contracts/index.ts';

type Kind = PairedMetric['kind'];

/** Mean of one side of the pairs; pairs must not be empty. */
export function mean(pairs: PairedMetric['pairs'], side: 'baseline' | 'candidate'): number {
  return pairs.reduce((sum, pair) => sum + pair[side], 0) / pairs.length;
}

/** A value as people read it: percent for rates, three digits for means. */
export function amount(value: number, kind: Kind): string {
  return kind === 'rate' ? `${fixed(100 * value)} %` : String(Number(value.toPrecision(3)));
}

/** A difference with its sign: percentage points for rates. */
export function signed(difference: number, kind: Kind): string {
  const text = kind === 'rate' ? fixed(100 * difference) : String(Number(difference.toPrecision(3)));
  return text.startsWith('-') ? text : `+${text}`;
}

/** Unit of a signed difference, with a leading blank; empty for means. */
export function unit(kind: Kind): string {
  return kind === 'rate' ? ' points' : '';
}

/** `p = 0.012`, `p < 0.001`. */
export function pText(p: number): string {
  return p < 0.001 ? 'p < 0.001' : `p = ${p.toFixed(3)}`;
}

/** 1234 as `1,234`, without the machine's locale. */
export function count(n: number): string {
  return String(n).replace(/\B(?=(\d{3})+$)/g, ',');
}

function fixed(value: number): string {
  const text = value.toFixed(1);
  return text === '-0.0' ? '0.0' : text;
}
