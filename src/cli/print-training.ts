import type { TrainingExport } from '../jobs/export-training.ts';
import type { ExampleRun, TrainEvent } from '../contracts/index.ts';
import type { SweepResult } from '../jobs/sweep.ts';
import type { PlannedSweep } from '../jobs/sweep-plan.ts';
import type { PlannedRecipe } from '../jobs/recipe-plan.ts';
import type { TrainedRecipe } from '../jobs/train-into.ts';
import { duration } from './progress.ts';
import { table } from './table.ts';
import { visible } from './visible.ts';

/** What a training would do: settings with their origin, then figures. */
export function plan(planned: PlannedRecipe): string {
  const settings = table(
    ['setting', 'value', 'from'],
    planned.settings.map(({ name, value, from }) => [`  ${visible(name)}`, shown(value), visible(from)]),
  );
  const { base, seed, effort } = planned;
  const facts = [base?.family, base?.parameters == null ? null : `${count(base.parameters)} parameters`];
  const known = facts.filter((fact) => fact !== null && fact !== undefined);
  const from = base === null ? '' : ` from ${base.id}${known.length === 0 ? '' : ` (${known.join(', ')})`}`;
  return `${planned.checkpoint}: ${planned.trainer}${visible(from)}, seed ${seed}, effort ${effort}\n\n${settings}\n\n${figures(planned)}`;
}

function figures({ plan: value, rows, replayRows, validation, availableBytes }: PlannedRecipe): string {
  const share = value.parameters === 0 ? 0 : (100 * value.trainableParameters) / value.parameters;
  const free = availableBytes ?? Infinity;
  const tight = value.memoryBytes > free ? '  MORE THAN IS FREE' : value.memoryBytes > 0.8 * free ? '  tight' : '';
  const memory = `${size(value.memoryBytes)}${availableBytes === null ? '' : ` of ${size(availableBytes)} free`}`;
  return table(
    [],
    [
      ['  rows', `${count(rows)}${replayRows === 0 ? '' : ` and ${count(replayRows)} for replay`}`],
      ['  steps', count(value.steps)],
      ['  tokens', `${count(value.tokens)}, of which ${count(value.labelledTokens)} are learned`],
      [
        '  parameters',
        `${count(value.parameters)}, of which ${count(value.trainableParameters)} are trained (${share.toFixed(share < 1 ? 2 : 0)} %)`,
      ],
      ['  memory', `${memory}${tight}`],
      ['  time', value.seconds === null ? 'unknown' : `about ${time(value.seconds)}`],
      ...(validation === null
        ? []
        : [
            [
              '  validation',
              `${validation.metric} ${validation.everySteps === null ? 'once, of the finished checkpoint' : `every ${validation.everySteps} steps`}${validation.patience === null ? '' : `, stop after ${validation.patience} without a better one`}; split validation`,
            ],
          ]),
    ],
  );
}

const longestRun = 160;

/** A training example: what is trained stands in [brackets], on a terminal in colour too. */
export function example(
  event: Extract<TrainEvent, { type: 'example' }>,
  stream: { readonly isTTY?: boolean } = {},
): string {
  const colour = stream.isTTY === true && process.env['NO_COLOR'] === undefined;
  const runs = event.runs.map(({ text, trained: learned }: ExampleRun) => {
    const short = visible(
      text.length > longestRun ? `${text.slice(0, longestRun / 2)} … ${text.slice(-longestRun / 2)}` : text,
    );
    if (!learned) return short;
    return colour ? `\x1b[32m[${short}]\x1b[39m` : `[${short}]`;
  });
  return `  example ${visible(event.id)} (trained in brackets): ${runs.join('')}`;
}

/** What came of a training. */
export function trained(result: TrainedRecipe): string {
  const metrics = Object.entries(result.metrics).map(([name, value]) => [`  ${name}`, number(value)]);
  const best = result.validation.find(({ step }) => step === result.bestStep);
  return [
    `${result.checkpoint}  ${result.digest}`,
    `  ${result.path}`,
    '',
    table(
      [],
      [
        ['  steps', count(result.steps)],
        ['  tokens trained on', count(result.trainedTokens)],
        ...(result.bestStep === null
          ? []
          : [
              [
                '  best step',
                `${result.bestStep}${best === undefined ? '' : ` (${result.plan.validation?.metric ?? ''} ${number(best.value)})`}`,
              ],
            ]),
      ],
    ),
    ...(metrics.length === 0 ? [] : ['', '  at the last step', table([], metrics)]),
  ].join('\n');
}

/** Members of a sweep before they are trained. */
export function sweepPlan(planned: PlannedSweep): string {
  return [
    `${planned.checkpoint}: ${planned.candidates.length} ${planned.candidates.length === 1 ? 'candidate' : 'candidates'} × ${planned.seeds.length} seeds (${planned.seeds.join(', ')}), compared by ${planned.metric}`,
    '',
    table(
      ['candidate', 'steps a seed', 'tokens a seed', 'memory', 'time, all seeds'],
      planned.candidates.map(({ name, plan: { plan: value } }) => [
        `  ${visible(name)}`,
        count(value.steps),
        count(value.tokens),
        size(value.memoryBytes),
        value.seconds === null ? 'unknown' : time(value.seconds * planned.seeds.length),
      ]),
      new Set([1, 2, 3, 4]),
    ),
    '',
    planned.candidates[0] === undefined ? '' : plan(planned.candidates[0].plan),
  ].join('\n');
}

/** Outcome of a sweep: a row a candidate, then what was chosen and why. */
export function sweep(result: SweepResult): string {
  const scale = result.rate ? 100 : 1;
  const digits = result.rate ? 1 : 4;
  const value = (one: number | null): string => (one === null ? '–' : (scale * one).toFixed(digits));
  const signed = (one: number | null): string => (one === null ? '–' : `${one >= 0 ? '+' : ''}${value(one)}`);
  return [
    `${result.metric} on split validation, ${result.cases} cases${result.rate ? ', percent' : ''}; compared with "${result.reference}"`,
    '',
    table(
      [
        'candidate',
        'seeds',
        'mean',
        'between seeds',
        'difference',
        `${Math.round(100 * result.level)} % interval`,
        'p',
        'decision',
      ],
      result.candidates.map((one) => [
        `${visible(one.name)}${one.name === result.chosen.candidate ? ' *' : ''}`,
        one.values.map(value).join(' '),
        value(one.mean),
        one.spread === null ? '–' : `± ${value(one.spread)}`,
        signed(one.difference),
        one.low === null ? '–' : `${signed(one.low)} to ${signed(one.high)}`,
        one.adjustedP === null ? '–' : one.adjustedP < 0.001 ? '<0.001' : one.adjustedP.toFixed(3),
        one.decision,
      ]),
      new Set([2, 3, 4, 6]),
    ),
    '',
    `* ${visible(result.chosen.reason)}`,
    ...result.notes.map((note) => `  ${note}`),
    '',
    `${result.checkpoint}  ${result.digest}`,
    `  ${result.path}`,
  ].join('\n');
}

function time(seconds: number): string {
  return seconds < 10 ? `${seconds.toFixed(1)}s` : duration(seconds);
}

function shown(value: unknown): string {
  return visible(typeof value === 'string' ? value : (JSON.stringify(value) ?? ''));
}

function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

function number(value: number | null): string {
  return value === null ? 'not measured' : String(Number(value.toPrecision(5)));
}

function size(bytes: number): string {
  return bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(2)} GiB` : `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}

/** What an export wrote, and that nobody ran it. */
export function exported(result: TrainingExport): string {
  return [
    `written, not run: ${result.rows} rows, ${result.steps} steps, for ${result.tool}`,
    ...result.files.map((file) => `  ${result.folder}/${file}`),
    `  fields as documented in ${result.readFrom}`,
  ].join('\n');
}
