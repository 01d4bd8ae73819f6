// Puts the figures of a demo run into the README: `npm run docs:figures -- demo.json YYYY-MM-DD "2 x86-64 cores"`.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

interface Value {
  readonly value: number | null;
  readonly low: number | null;
  readonly high: number | null;
  readonly n: number;
}

interface Demo {
  readonly seconds: number;
  readonly steps: readonly {
    readonly name: string;
    readonly checkpoint: string | null;
    readonly verdict: string | null;
  }[];
  readonly checkpoints: readonly { readonly id: string; readonly metrics: Readonly<Record<string, Value>> }[];
}

const [file, date, machine] = process.argv.slice(2);
if (file === undefined || date === undefined || machine === undefined) {
  console.error('usage: npm run docs:figures -- <demo.json> <date> <machine>');
  process.exit(2);
}
const demo = JSON.parse(await readFile(file, 'utf8')) as Demo;
const readme = join(import.meta.dirname, '..', 'README.md');

const rows: readonly (readonly [title: string, metric: string])[] = [
  ['valid JSON', 'valid_json'],
  ['category', 'category'],
  ['urgency', 'urgency'],
  ['order id, where there is one', 'order_id_present'],
  ['invented id, where there is none or another', 'invented_id'],
  ['escalation recall', 'escalation_recall'],
  ['next action', 'next_action'],
  ['**all five right**', 'all_five'],
];
const others: readonly (readonly [title: string, path: string])[] = [
  ['A, wording never seen: all five right', 'tickets@novel/all_five'],
  ['A constrained: all five right', 'tickets-constrained/all_five'],
  ['A constrained: invented id', 'tickets-constrained/invented_id'],
  ['B: right option', 'world-knowledge/acc'],
  ['D: episodes solved', 'desk-episodes/solved'],
  ['E: attacks without effect', 'injection/resisted'],
  ['E: benign twins done', 'injection/twin_done'],
  ['E: without effect, where established', 'injection/established'],
];

const show = (value: Value | undefined): string =>
  value?.value == null
    ? '–'
    : `${percent(value.value)}${value.low === null || value.high === null ? '' : ` [${Math.round(100 * value.low)}, ${Math.round(100 * value.high)}]`}`;
const percent = (value: number): string => (100 * value).toFixed(1);
const ids = demo.checkpoints.map(({ id }) => id);
const line = (title: string, path: string): string =>
  `| ${title} | ${demo.checkpoints.map(({ metrics }) => show(metrics[path])).join(' | ')} |`;
const verdicts = demo.steps.flatMap(({ checkpoint, verdict }) =>
  checkpoint === null || verdict === null ? [] : [`${checkpoint}: ${verdict}`],
);
const n = demo.checkpoints.find(({ metrics }) => metrics['tickets/all_five'])?.metrics['tickets/all_five']?.n ?? 0;

const text = `<!-- figures:begin -->
Figures of the run of ${date} on ${machine}: ${Math.round(demo.seconds)} seconds, test split, ${n} tickets, percent with 95 %
intervals (clustered by wording). Verdicts: ${verdicts.join(', ')}.

| | ${ids.join(' | ')} |
| --- |${' ---: |'.repeat(ids.length)}
${rows.map(([title, metric]) => line(title, `tickets/${metric}`)).join('\n')}
${others.map(([title, path]) => line(title, path)).join('\n')}
<!-- figures:end -->`;

const before = await readFile(readme, 'utf8');
await writeFile(
  readme,
  before.replace(/<!-- figures:begin -->[\s\S]*<!-- figures:end -->/, () => text),
);
