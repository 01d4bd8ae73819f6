import { createHash } from 'node:crypto';
import type { ReportInput } from '../../src/contracts/index.ts';
import { defineReport } from '../../src/kit/index.ts';
import { reportFileName } from '../lib/file-name.ts';
import { visibleDeep } from '../lib/visible-text.ts';
import { chartLibrary } from './chart-library.ts';
import { renderTemplate } from './render-template.ts';
import { explorer, script, styles } from './templates.generated.ts';
import { casesView, shortCase } from './views/cases-view.ts';
import { comparisonView } from './views/comparison-view.ts';
import { layersView } from './views/layers-view.ts';
import { provenanceView } from './views/provenance-view.ts';
import { rulesView } from './views/rules-view.ts';
import { trainingView } from './views/training-view.ts';
import { verdictView } from './views/verdict-view.ts';

const VERSION = '1.0.0';

function contentHash(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`;
}

/** Nothing may load or run but the page's own style sheet and scripts, known by their digests. */
function contentPolicy(scripts: readonly string[]): string {
  const hashes = scripts.map((text) => `'${contentHash(text)}'`).join(' ');
  return `default-src 'none'; style-src '${contentHash(styles)}'; script-src ${hashes}; img-src data:; base-uri 'none'; form-action 'none'`;
}

/** The page of one checkpoint: one file, no address outside it, readable without JavaScript. */
export function renderScorecard(raw: ReportInput): string {
  const input: ReportInput = { ...visibleDeep({ ...raw, cases: [] }), cases: raw.cases.map(shortCase) };
  const rules = rulesView(input);
  const layers = layersView(input);
  const comparison = comparisonView(input);
  const training = trainingView(input);
  const cases = casesView(input, (view) => renderTemplate('case', view));
  const scripts = comparison?.explorer == null ? [script] : [script, chartLibrary, explorer];
  return renderTemplate('page', {
    policy: contentPolicy(scripts),
    styles,
    scripts: scripts.map((text) => ({ script: text })),
    version: VERSION,
    date: input.date,
    project: input.project,
    checkpoint: {
      id: input.checkpoint.id,
      role: input.checkpoint.role,
      description: input.checkpoint.description,
    },
    verdict: verdictView(input),
    rules,
    layers,
    comparison,
    training,
    cases,
    provenance: provenanceView(input),
    notes: input.notes,
  });
}

export default defineReport({
  summary: 'one self-contained HTML page that answers: may this checkpoint be shipped?',
  version: VERSION,
  render: async (input) => [
    { path: reportFileName('scorecard', input.checkpoint.id, 'html'), content: renderScorecard(input) },
  ],
});
