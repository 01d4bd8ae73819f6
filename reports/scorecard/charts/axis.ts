import { element, percentAlong } from '../../lib/markup.ts';
import { ticks } from './scale.ts';

/** The axis row above or below interval graphics: tick labels at percent positions. */
export function axisSvg(range: readonly [number, number], label: (value: number) => string, count = 5): string {
  const marks = ticks(range[0], range[1], count).flatMap((tick) => {
    const x = percentAlong(tick, range[0], range[1]);
    const share = Number.parseFloat(x);
    const anchor = share < 4 ? 'start' : share > 96 ? 'end' : 'middle';
    return [
      element('line', { x1: x, x2: x, y1: '0', y2: '4', class: 'tick' }),
      element('text', { x, y: '16', 'text-anchor': anchor }, label(tick)),
    ];
  });
  return element('svg', { class: 'axis', 'aria-hidden': 'true', focusable: 'false' }, ...marks).markup;
}
