import type { ReportInput } from '../../../src/contracts/index.ts';
import { formatCount, formatValue, NO_VALUE } from '../../lib/format.ts';
import { lossBuckets, lossCurveSvg } from '../charts/loss-curve.ts';
import { stepCurveSvg } from '../charts/step-curve.ts';

type Training = NonNullable<ReportInput['training']>;

/** How the checkpoint came to be. Null for one that was not trained here. */
export function trainingView(input: ReportInput): object | null {
  const { training } = input;
  if (training === null) return null;
  const settings = training.settings ?? [];
  return {
    trainer: training.trainer,
    parent: training.parent,
    digest: /^(sha256:)?[0-9a-f]{40,}$/.test(training.parent),
    steps: formatCount(training.steps),
    tokens: formatCount(training.trainedTokens),
    kept: training.bestStep === undefined ? null : formatCount(training.bestStep),
    curves: curvesOf(training).filter(({ curveSvg }) => curveSvg !== null),
    settings:
      settings.length === 0
        ? null
        : {
            rows: settings.map(({ name, value, from }) => ({
              name,
              value: typeof value === 'string' ? value : (JSON.stringify(value) ?? NO_VALUE),
              from,
            })),
          },
  };
}

interface CurveView {
  readonly title: string;
  readonly value: string;
  readonly curveSvg: string | null;
  readonly rows: readonly { readonly steps: string; readonly value: string }[];
}

function curvesOf({ losses, validation, learningRates = [], bestStep }: Training): CurveView[] {
  const chosen = bestStep ?? null;
  const spanned = (from: number, to: number): string =>
    from === to ? formatCount(from) : `${formatCount(from)} to ${formatCount(to)}`;
  const points = validation?.points ?? [];
  const rates = lossBuckets(learningRates, 240).map(({ from, to, mean }) => ({ step: (from + to) / 2, value: mean }));
  return [
    {
      title: 'Training loss',
      value: 'Mean loss',
      curveSvg: lossCurveSvg(losses, chosen),
      rows: lossBuckets(losses, 10).map(({ from, to, mean }) => ({
        steps: spanned(from, to),
        value: formatValue(mean, 'mean'),
      })),
    },
    {
      title: `Validation: ${validation?.metric ?? ''}`,
      value: 'Value',
      curveSvg: stepCurveSvg({
        title: validation?.metric ?? '',
        points: points.flatMap(({ step, value }) => (value === null ? [] : [{ step, value }])),
        steps: losses.length,
        chosen,
        dots: true,
        positive: points.every(({ value }) => value === null || value >= 0),
      }),
      rows: points.map(({ step, value }) => ({
        steps: formatCount(step),
        value: `${value === null ? 'not measured' : String(Number(value.toPrecision(4)))}${step === bestStep ? ', kept' : ''}`,
      })),
    },
    {
      title: 'Learning rate',
      value: 'Mean learning rate',
      curveSvg: stepCurveSvg({
        title: 'learning rate',
        points: rates,
        steps: losses.length,
        chosen: null,
        dots: false,
        positive: true,
      }),
      rows: lossBuckets(learningRates, 10).map(({ from, to, mean }) => ({
        steps: spanned(from, to),
        value: String(Number(mean.toPrecision(3))),
      })),
    },
  ];
}
