import { canonicalJson, defineReport } from '../src/kit/index.ts';
import { reportFileName } from './lib/file-name.ts';

/** The whole report input as canonical JSON (RFC 8785) and a line end: for other programs, and for comparing two runs. */
export default defineReport({
  summary: 'everything a report knows of one checkpoint, as canonical JSON',
  version: '1.0.0',
  render: async (input) => [
    { path: reportFileName('report', input.checkpoint.id, 'json'), content: `${canonicalJson(input)}\n` },
  ],
});
