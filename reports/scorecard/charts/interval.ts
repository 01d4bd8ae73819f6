import { element, percentAlong, type Markup } from '../../lib/markup.ts';

export interface IntervalMark {
  readonly value: number | null;
  readonly low: number | null;
  readonly high: number | null;
}

/**
 * One row of an interval graphic, without text: it stands in a table cell beside its numbers. Positions are percent of
 * the cell's width, so nothing is distorted at any width.
 */
export function intervalSvg(
  mark: IntervalMark,
  range: readonly [number, number],
  options: {
    readonly tone: string;
    readonly baseline?: number | null;
    readonly lines?: readonly { readonly at: number; readonly className: string }[];
  },
): string {
  const at = (value: number): string => percentAlong(value, range[0], range[1]);
  const parts: Markup[] = [];
  for (const line of options.lines ?? [])
    parts.push(element('line', { x1: at(line.at), x2: at(line.at), y1: '0', y2: '100%', class: line.className }));
  if (mark.low !== null && mark.high !== null) {
    parts.push(element('line', { x1: at(mark.low), x2: at(mark.high), y1: '50%', y2: '50%', class: 'span' }));
    for (const end of [mark.low, mark.high])
      parts.push(element('line', { x1: at(end), x2: at(end), y1: '34%', y2: '66%', class: 'cap' }));
  }
  const { baseline } = options;
  if (baseline !== null && baseline !== undefined)
    parts.push(element('line', { x1: at(baseline), x2: at(baseline), y1: '14%', y2: '86%', class: 'before' }));
  if (mark.value !== null) parts.push(element('circle', { cx: at(mark.value), cy: '50%', r: 4.5, class: 'dot' }));
  return element('svg', { class: `interval tone-${options.tone}`, 'aria-hidden': 'true', focusable: 'false' }, ...parts)
    .markup;
}
