import { element } from '../../lib/markup.ts';

/** Shares of a whole side by side, in percent of the width; the numbers stand in the cells beside it. */
export function stackedBarSvg(parts: readonly { readonly count: number; readonly tone: string }[]): string {
  const total = parts.reduce((sum, part) => sum + part.count, 0);
  let before = 0;
  const bars = parts
    .filter((part) => part.count > 0)
    .map((part) => {
      const x = `${(before / total) * 100}%`;
      before += part.count;
      return element('rect', {
        x,
        y: '25%',
        width: `${(part.count / total) * 100}%`,
        height: '50%',
        class: `part tone-${part.tone}`,
      });
    });
  return element('svg', { class: 'stack', 'aria-hidden': 'true', focusable: 'false' }, ...bars).markup;
}
