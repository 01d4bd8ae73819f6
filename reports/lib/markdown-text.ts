import { clippedText } from './visible-text.ts';

/**
 * Plain text inside Markdown that may become HTML: nothing in it can be a tag, a link, a mention, an emphasis or the
 * end of a table cell. White space is folded, as a line end would end the row.
 */
export function markdownText(text: string, limit = 400): string {
  return clippedText(text.replace(/\s+/g, ' ').trim(), limit)
    .replace(/&/g, '&amp;')
    .replace(/</g, '&lt;')
    .replace(/>/g, '&gt;')
    .replace(/@/g, '&#64;')
    .replace(/:\/\//g, '&#58;//')
    .replace(/www\./gi, (match) => `${match.slice(0, 3)}&#46;`)
    .replace(/(?<!&)#/g, '&#35;')
    .replace(/[\\`*_{}[\]|~$!]/g, (character) => `\\${character}`);
}

/** A table row; cells must be Markdown already. */
export function markdownRow(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`;
}

/** Head and rule of a table; columns from `numbersFrom` on are right-aligned. */
export function markdownHead(titles: readonly string[], numbersFrom: number): string[] {
  return [markdownRow(titles), markdownRow(titles.map((_, index) => (index >= numbersFrom ? '---:' : '---')))];
}
