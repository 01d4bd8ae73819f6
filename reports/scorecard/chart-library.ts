import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const require = createRequire(import.meta.url);

/**
 * Chart.js as one classic script, for the page's trade-off explorer: its only use, as every other figure is SVG that
 * needs no script. Addresses in its comments are shortened and the source map is dropped, so that the page names no
 * place outside itself.
 */
export const chartLibrary: string = readFileSync(join(dirname(require.resolve('chart.js')), 'chart.umd.min.js'), 'utf8')
  .replace(/\n\/\/# sourceMappingURL=.*/g, '')
  .replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/https?:\/\//g, ''))
  .trim();
