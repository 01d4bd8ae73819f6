import { element, percentAlong, type Markup } from '../../lib/markup.ts';
import { ticks } from './scale.ts';

export interface Axis {
  readonly range: readonly [number, number];
  readonly title: string;
  readonly label: (value: number) => string;
  readonly count: number;
}

/**
 * A plot with two axes. The SVG is the inner area, where `content` draws in percent; labels stand outside it, in the
 * margin that the style sheet keeps, and keep their size at any width, because nothing is scaled.
 */
export function plotFrame(x: Axis, y: Axis, description: string, content: readonly Markup[]): string {
  const gridY = ticks(y.range[0], y.range[1], y.count).map((tick) => {
    const at = percentAlong(tick, y.range[1], y.range[0]);
    return [
      element('line', { x1: '0', x2: '100%', y1: at, y2: at, class: 'grid' }),
      element('text', { x: -8, y: at, dy: '0.32em', 'text-anchor': 'end' }, y.label(tick)),
    ];
  });
  const gridX = ticks(x.range[0], x.range[1], x.count).map((tick) => {
    const at = percentAlong(tick, x.range[0], x.range[1]);
    return [
      element('line', { x1: at, x2: at, y1: '0', y2: '100%', class: 'grid faint' }),
      element('text', { x: at, y: '100%', dy: '1.5em', 'text-anchor': 'middle' }, x.label(tick)),
    ];
  });
  return element(
    'svg',
    { class: 'plot', role: 'img', 'aria-label': description },
    element('text', { x: -40, y: -12, class: 'axis-title' }, y.title),
    ...gridY.flat(),
    ...gridX.flat(),
    ...content,
    element('text', { x: '100%', y: '100%', dy: '2.9em', 'text-anchor': 'end', class: 'axis-title' }, x.title),
  ).markup;
}
