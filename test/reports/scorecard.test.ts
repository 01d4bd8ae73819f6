import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { renderScorecard } from '../../reports/scorecard/index.ts';
import type { ReportInput } from '../../src/contracts/index.ts';
import { HOSTILE_TEXTS, poison } from './hostile-input.ts';
import { scanHtml, textWithin, type HtmlElement } from './html-scan.ts';
import { estimate, makeReportInput, SCENARIOS } from './report-inputs.ts';

const inputs = Object.fromEntries(
  Object.entries(SCENARIOS).map(([name, scenario]) => [name, makeReportInput(scenario)]),
) as Record<keyof typeof SCENARIOS, ReportInput>;
const pages = Object.fromEntries(
  Object.entries(inputs).map(([name, input]) => [name, renderScorecard(input)]),
) as Record<keyof typeof SCENARIOS, string>;

const scans = new Map<string, HtmlElement[]>();
function scan(html: string): HtmlElement[] {
  const known = scans.get(html) ?? scanHtml(html);
  scans.set(html, known);
  return known;
}

function section(html: string, id: string): string {
  const elements = scan(html);
  const root = elements.find((element) => element.attributes.get('id') === id);
  if (root === undefined) throw new Error(`no section ${id}`);
  return textWithin(elements, root);
}

const rootOf = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));

describe('the scorecard', () => {
  it.each([
    ['promote', 'PROMOTE'],
    ['reject', 'REJECT'],
    ['inconclusive', 'INCONCLUSIVE'],
    ['invalid', 'INVALID'],
    ['baseline', 'NO VERDICT'],
  ] as const)('says the verdict of %s in its title and its first heading', (name, word) => {
    const elements = scan(pages[name]);
    const heading = elements.find((element) => element.name === 'h1') as HtmlElement;
    expect(elements.filter((element) => element.name === 'h1')).toHaveLength(1);
    expect(textWithin(elements, heading)).toContain(word);
    expect(elements.find((element) => element.name === 'title')?.text).toContain(word);
    expect(section(pages[name], 'verdict')).toContain(inputs[name].verdict?.headline ?? 'it is compared, not judged');
  });

  it('gives every verdict an outline of its own, so that colour is not the only signal', () => {
    const shapes = Object.values(pages).map(
      (html) => /<svg[^>]*class="verdict-icon"[^>]*>(.*?)<\/svg>/s.exec(html)?.[1],
    );
    expect(new Set(shapes).size).toBe(shapes.length);
  });

  it('shows the rules of the gate with difference, interval, p values, clusters, margin and outcome in words', () => {
    const why = section(pages.reject, 'why');
    for (const part of [
      'Urgency',
      'broken',
      '79.1 %',
      '47.9 %',
      '−31.2',
      '−33.3 to −29.1',
      '3.0 points',
      '/ 84',
      '209 differ',
      'tango',
      '0.407',
      '1.000',
    ])
      expect(why, part).toContain(part);
  });

  it('says that a gate on validity alone would have let the bad checkpoint through', () => {
    expect(section(pages.reject, 'verdict')).toContain('“valid JSON only” would have let this checkpoint through.');
    expect(section(pages.reject, 'why')).toContain('disagrees');
  });

  it('says how many cases would settle an inconclusive comparison', () => {
    expect(section(pages.inconclusive, 'verdict')).toContain('About 2 900 cases would settle it at 80 % power.');
  });

  it('has no gate sections for a checkpoint without verdict', () => {
    const ids = scan(pages.baseline).map((element) => element.attributes.get('id'));
    expect(ids).not.toContain('why');
    expect(ids).not.toContain('training');
    expect(ids).toContain('comparison');
  });

  it('makes it visible that a regex beats the model on ids', () => {
    const comparison = section(pages.promote, 'comparison');
    expect(comparison).toContain('Order id, where there is one: rules has 92.0 %, this checkpoint 86.1 %');
    const row =
      /<tr[^>]*><th scope="row">Order id, where there is one<\/th>(.*?)<\/tr>/s.exec(pages.promote)?.[1] ?? '';
    const cells = row.split('<td').slice(1);
    expect(cells.map((cell) => cell.includes('best-mark'))).toEqual([
      false,
      false,
      false,
      true,
      false,
      false,
      false,
      false,
    ]);
  });

  it('marks an uncalibrated judge as one that never gates', () => {
    expect(section(pages.promote, 'layer-c')).toContain(
      'Not calibrated: informs, never gates.'.split(' ').slice(2).join(' '),
    );
    const calibrated = renderScorecard({
      ...inputs.promote,
      lengthControl: {
        ...(inputs.promote.lengthControl as NonNullable<ReportInput['lengthControl']>),
        calibrated: true,
      },
    });
    expect(section(calibrated, 'layer-c')).not.toContain('never gates');
  });

  it('shows attacks by OWASP item with counts as text and the do-nothing and obey-all references', () => {
    const layer = section(pages.promote, 'layer-e');
    for (const part of ['LLM06', 'Excessive agency', 'Not established', 'do-nothing', 'obey-all'])
      expect(layer).toContain(part);
  });

  it('shows a missing value as a dash and never as zero, NaN or null', () => {
    const [first, ...rest] = inputs.promote.suites;
    if (first === undefined) throw new Error('no suite');
    const missing = {
      ...first,
      metrics: first.metrics.map((metric) => ({
        ...metric,
        estimate: estimate(null, 600, 0, 84, 600),
        baseline: null,
      })),
    };
    const html = renderScorecard({ ...inputs.promote, suites: [missing, ...rest] });
    const layer = section(html, 'layer-a');
    expect(layer).toContain('—');
    expect(layer).not.toMatch(/\b0\.0 %/);
    expect(html.replace(/<script>.*<\/script>/s, '')).not.toMatch(/NaN|undefined|>null</);
  });

  it('puts regressions first and opens the first case', () => {
    const cases = scan(pages.inconclusive).filter((element) => element.attributes.get('class') === 'case');
    const changes = cases.map((element) => element.attributes.get('data-change'));
    expect(changes.slice(0, 21)).toEqual(Array(21).fill('regressed'));
    expect(changes.slice(21)).not.toContain('regressed');
    expect(cases.map((element) => element.attributes.has('open'))).toEqual(cases.map((_, index) => index === 0));
  });

  it('compares JSON field by field, and other texts word by word', () => {
    const cases = section(pages.inconclusive, 'cases');
    expect(cases).toContain('needs_human');
    expect(pages.inconclusive).toMatch(/<ins>CANARY<\/ins>|<ins>[^<]*CANARY/);
    expect(pages.inconclusive).toMatch(/<del>[^<]*customer/);
  });

  it('embeds the most telling 150 cases of 298, from every suite, and says how many are left out', () => {
    expect(section(pages.reject, 'cases')).toContain('150 of 298 cases');
    expect(section(pages.reject, 'cases')).toContain('148 are left out');
    const shown = new Set(
      scan(pages.reject)
        .filter((element) => element.attributes.get('class') === 'case')
        .map((element) => element.attributes.get('data-suite')),
    );
    expect([...shown].sort()).toEqual(['injections', 'tickets', 'world-choice']);
  });

  it('stays below two megabytes whatever the size of the texts', () => {
    const long = 'a<b>&"word" '.repeat(4000);
    const cases = inputs.reject.cases.map((entry) => ({
      ...entry,
      input: long,
      expected: long,
      output: `${long}x`,
      baselineOutput: long,
      tags: Array<string>(500).fill(long),
    }));
    const html = renderScorecard({ ...inputs.reject, cases });
    expect(Buffer.byteLength(html)).toBeLessThan(2_000_000);
    expect(section(html, 'cases')).toMatch(/[1-9]\d* of 298 cases/);
  });

  it('is complete without its script: only the filter controls and the explorer are hidden', () => {
    for (const html of Object.values(pages))
      expect(
        scan(html)
          .filter((element) => element.attributes.has('hidden'))
          .map((element) => element.attributes.get('id')),
      ).toEqual(['explorer', 'filters']);
  });

  it('shortens digests by style alone, so that the whole value can be copied', () => {
    for (const { digest } of inputs.promote.provenance) expect(pages.promote).toContain(`>${digest}</code>`);
    expect(section(pages.promote, 'provenance')).toContain('cupel verify sft');
  });

  it('quotes a hostile id in the command it suggests', () => {
    const html = renderScorecard({
      ...inputs.promote,
      checkpoint: { ...inputs.promote.checkpoint, id: "x'; rm -rf ~ #" },
    });
    expect(section(html, 'provenance')).toContain(`cupel verify 'x'\\''; rm -rf ~ #'`);
  });
});

describe('the scorecard as a document', () => {
  it.each(Object.keys(pages) as (keyof typeof pages)[])(
    '%s: names, headings, tables and references are sound',
    (name) => {
      const elements = scan(pages[name]);
      const ids = elements.flatMap((element) => element.attributes.get('id') ?? []);
      expect(new Set(ids).size).toBe(ids.length);
      for (const element of elements) {
        for (const key of ['aria-labelledby', 'aria-describedby', 'for'])
          for (const id of element.attributes.get(key)?.split(' ') ?? []) expect(ids).toContain(id);
        const href = element.attributes.get('href');
        if (href?.startsWith('#') === true) expect(ids).toContain(href.slice(1));
        if (element.name === 'table') expect(elements[elements.indexOf(element) + 1]?.name).toBe('caption');
        if (element.name === 'th') expect(element.attributes.has('scope')).toBe(true);
        if (element.name === 'svg')
          expect(
            element.attributes.get('aria-hidden') === 'true' ||
              element.attributes.has('aria-label') ||
              element.parent?.name === 'svg',
          ).toBe(true);
        if (['select', 'input'].includes(element.name)) expect(element.parent?.name).toBe('label');
      }
      const levels = elements
        .filter((element) => /^h[1-6]$/.test(element.name))
        .map((element) => Number(element.name[1]));
      levels.forEach((level, index) => expect(level).toBeLessThanOrEqual((levels[index - 1] ?? 0) + 1));
      for (const landmark of ['header', 'nav', 'main', 'footer'])
        expect(elements.filter((element) => element.name === landmark)).toHaveLength(1);
    },
  );

  it('has every row of every table as wide as its head', () => {
    for (const html of Object.values(pages)) {
      const elements = scan(html);
      const children = new Map<HtmlElement | null, HtmlElement[]>();
      for (const element of elements) children.set(element.parent, [...(children.get(element.parent) ?? []), element]);
      const of = (parent: HtmlElement): HtmlElement[] => children.get(parent) ?? [];
      for (const table of elements.filter((element) => element.name === 'table')) {
        const rows = of(table).flatMap((part) =>
          part.name === 'tr' ? [part] : of(part).filter((row) => row.name === 'tr'),
        );
        const widths = rows.map((row) =>
          of(row).reduce((sum, cell) => sum + Number(cell.attributes.get('colspan') ?? 1), 0),
        );
        expect(new Set(widths).size, `table ${table.attributes.get('class')}`).toBe(1);
      }
    }
  });
});

describe('the scorecard against hostile text', () => {
  it.each(HOSTILE_TEXTS.map((text) => [text]))('keeps %j inert wherever it stands', (payload) => {
    const html = renderScorecard(poison(inputs.reject, payload));
    const elements = scan(html);
    expect(
      elements
        .filter((element) => ['script', 'style', 'meta', 'link'].includes(element.name))
        .map((element) => element.name)
        .join(),
    ).toBe('meta,meta,meta,meta,meta,link,style,script,script,script');
    const foreign = elements.filter((element) =>
      ['img', 'iframe', 'object', 'embed', 'form', 'base', 'video', 'foreignObject'].includes(element.name),
    );
    expect(foreign).toEqual([]);
    for (const element of elements)
      for (const [key, value] of element.attributes) {
        expect(key).not.toMatch(/^(on|style$|srcdoc$|autofocus$|src$)/);
        if (key === 'href') expect(value).toMatch(/^(#[a-z-]+|data:,)$/);
      }
    expect(html).not.toMatch(/[\u0000-\u0008\u202a-\u202e\u2066-\u2069]/);
    expect(/\p{Surrogate}/u.test(html)).toBe(false);
  });

  it('names no place outside itself', () => {
    for (const html of Object.values(pages)) expect(html.match(/https?:\/\/.{0,40}/g)).toBeNull();
  });

  it('allows exactly its own style sheet and script', () => {
    const elements = scan(pages.promote);
    const policy = elements.find((element) => element.attributes.has('http-equiv'))?.attributes.get('content') ?? '';
    const hash = (name: string): string =>
      elements
        .filter((element) => element.name === name)
        .map((element) => `'sha256-${createHash('sha256').update(element.text).digest('base64')}'`)
        .join(' ');
    expect(policy).toBe(
      `default-src 'none'; style-src ${hash('style')}; script-src ${hash('script')}; img-src data:; base-uri 'none'; form-action 'none'`,
    );
  });
});

describe('the templates', () => {
  it('are precompiled from the files as they stand', () => {
    expect(() =>
      execFileSync(process.execPath, [rootOf('scripts/build-templates.mjs'), '--check'], { stdio: 'pipe' }),
    ).not.toThrow();
  });

  it('put only our own markup in without escaping', () => {
    const folder = rootOf('reports/scorecard/templates/');
    for (const file of readdirSync(folder))
      for (const [, name] of readFileSync(`${folder}${file}`, 'utf8').matchAll(/\{\{\{\s*([^}\s]+)\s*\}\}\}/g))
        expect(name, file).toMatch(/(Svg|Html|^styles|^script)$/);
  });
});
