import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { Report, ReportInput } from '../../src/contracts/index.ts';
import { HOSTILE_TEXTS, poison } from '../reports/hostile-input.ts';
import { makeReportInput, SCENARIOS } from '../reports/report-inputs.ts';

/** Every report of the repository: a file below `reports/`, or a folder with an `index.ts`. */
const folder = fileURLToPath(new URL('../../reports/', import.meta.url));
const found = readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
  if (entry.isFile() && entry.name.endsWith('.ts'))
    return [{ id: entry.name.slice(0, -3), path: `${folder}${entry.name}` }];
  const index = `${folder}${entry.name}/index.ts`;
  return entry.isDirectory() && existsSync(index) ? [{ id: entry.name, path: index }] : [];
});
const reports = await Promise.all(
  found.map(async ({ id, path }) => ({
    id,
    report: ((await import(pathToFileURL(path).href)) as { default: Report }).default,
  })),
);
const inputs = Object.entries(SCENARIOS).map(([name, scenario]) => ({ name, input: makeReportInput(scenario) }));
const empty: ReportInput = {
  project: '',
  checkpoint: { id: '', role: '', digest: '', description: '' },
  baselineId: null,
  verdict: null,
  naiveGates: [],
  suites: [],
  comparison: [],
  training: null,
  cases: [],
  lengthControl: null,
  provenance: [],
  notes: [],
  date: '',
};

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    Object.values(value).forEach(deepFreeze);
  }
  return value;
}

it('finds the reports', () => {
  expect(reports.map(({ id }) => id)).toEqual(expect.arrayContaining(['json', 'markdown', 'scorecard']));
});

describe.each(reports)('report $id', ({ report }) => {
  it('says what it is', () => {
    expect(report.kind).toBe('report');
    expect(report.summary).toMatch(/^\S.{10,120}$/);
    expect(report.version).toMatch(/^\d+\.\d+\.\d+$/);
  });

  it.each(inputs)('is pure: $name twice gives the same bytes, and the input is left alone', async ({ input }) => {
    const frozen = deepFreeze(structuredClone(input));
    expect(await report.render(frozen)).toEqual(await report.render(structuredClone(input)));
  });

  it('writes plain relative paths, different ones for different checkpoints', async () => {
    const paths = (await Promise.all(inputs.map(({ input }) => report.render(input)))).flat().map((file) => file.path);
    expect(new Set(paths).size).toBe(paths.length);
    const hostile = await report.render({ ...empty, checkpoint: { ...empty.checkpoint, id: '../../etc/pass\0wd' } });
    for (const path of [...paths, ...hostile.map((file) => file.path)]) {
      expect(path).toMatch(/^[A-Za-z0-9._/-]+$/);
      expect(path).not.toMatch(/(^|\/)\.|^\/|\/\//);
    }
  });

  it('renders an input that has nothing to show', async () => {
    for (const file of await report.render(empty)) expect(file.content).not.toMatch(/\bundefined\b|\bNaN\b/);
  });

  it('stays below two megabytes', async () => {
    for (const { input } of inputs)
      for (const file of await report.render(input)) expect(Buffer.byteLength(file.content)).toBeLessThan(2_000_000);
  });

  it.each(HOSTILE_TEXTS.map((text) => ({ text })))('keeps $text inert', async ({ text }) => {
    const input = poison(makeReportInput(SCENARIOS.reject), text);
    for (const file of await report.render(input)) {
      if (file.path.endsWith('.json')) {
        expect(JSON.parse(file.content)).toEqual(JSON.parse(JSON.stringify(input)));
        continue;
      }
      expect(file.content).not.toMatch(/<(img|iframe|svg on)|<[a-z]+[^>"]* on[a-z]+=/i);
      expect(file.content).not.toMatch(/(href|src|srcset|action|poster|data|xlink:href)="(?!#|data:,")/i);
      expect(file.content.replace(/<script>.*?<\/script>/gs, '')).not.toMatch(/url\(|@import/i);
      if (file.path.endsWith('.md')) expect(file.content).not.toMatch(/:\/\/|@everyone|<script|(?<!\\)\]\(/);
    }
  });
});
