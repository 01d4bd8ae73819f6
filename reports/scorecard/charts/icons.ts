import { element, type Markup } from '../../lib/markup.ts';
import type { VerdictWords } from '../../lib/words.ts';

const stroke = (d: string): Markup => element('path', { d, class: 'glyph' });

/** One outline a verdict, so that shape alone tells them apart: circle, octagon, diamond, triangle, square. */
const SHAPES: Readonly<Record<VerdictWords['tone'], readonly Markup[]>> = {
  promote: [element('circle', { cx: 24, cy: 24, r: 21, class: 'shape' }), stroke('M14 25l7 7 13-15')],
  reject: [
    element('path', { d: 'M15.3 3h17.4L45 15.3v17.4L32.7 45H15.3L3 32.7V15.3z', class: 'shape' }),
    stroke('M16 16l16 16M32 16L16 32'),
  ],
  inconclusive: [
    element('path', { d: 'M24 2l22 22-22 22L2 24z', class: 'shape' }),
    stroke('M19 19c0-7 10-7 10 0 0 4-5 4-5 8.500M24 33v.5'),
  ],
  invalid: [element('path', { d: 'M24 3l22 40H2z', class: 'shape' }), stroke('M24 18v12M24 36v.5')],
  none: [element('path', { d: 'M4 4h40v40H4z', class: 'shape' }), stroke('M14 24h20')],
};

export function verdictIconSvg(tone: VerdictWords['tone']): string {
  return element(
    'svg',
    { viewBox: '0 0 48 48', class: 'verdict-icon', 'aria-hidden': 'true', focusable: 'false' },
    ...SHAPES[tone],
  ).markup;
}

/** Small marks before outcome words: tick, cross, question mark. */
export function outcomeIconSvg(tone: 'good' | 'bad' | 'unclear' | 'invalid'): string {
  const path = {
    good: 'M2 7l4 4 7-9',
    bad: 'M2.500 2.500l9 9M11.500 2.500l-9 9',
    unclear: 'M4 4.500c0-4 6-4 6 0 0 2.500-3 2.500-3 5M7 12.500v.3',
    invalid: 'M7 1.500v7M7 12v.3',
  }[tone];
  return element(
    'svg',
    { viewBox: '0 0 14 14', class: 'outcome-icon', 'aria-hidden': 'true', focusable: 'false' },
    stroke(path),
  ).markup;
}
