import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import type { ProgressTask, TrainEvent } from '../contracts/index.ts';
import type { Project, TrainingCurve } from './project.ts';

/** What a training told on the way, for the record and the report. */
export interface Watched {
  readonly points: TrainingCurve['points'];
  readonly warnings: readonly { readonly code: string; readonly message: string }[];
}

export interface TrainWatch {
  sink(event: TrainEvent): void;
  end(summary: string): void;
  watched(): Watched;
}

/**
 * Shows a training while it runs: one live line with loss, tokens a second and time left; where there is no terminal, a
 * line each tenth of the steps.
 * @param curve file that keeps what was measured, so that a resumed run has it too
 */
export function watchTraining(
  project: Project,
  label: string,
  steps: number,
  curve: string,
  listen: (event: TrainEvent) => void,
): TrainWatch {
  const { progress } = project;
  const every = Math.max(1, Math.ceil(steps / 10));
  const points = new Map(keptPoints(curve).map((point) => [point.step, point]));
  const warnings: { code: string; message: string }[] = [];
  let task: ProgressTask | null = null;
  let since = 0;
  let first = 0;
  let reached = 0;
  let tokens = 0;
  let seconds = 0;

  const onStep = (event: Extract<TrainEvent, { type: 'step' }>): void => {
    const now = performance.now();
    if (task === null) {
      // A resumed run starts in the middle; what lies before the first step is preparation and no measure of speed.
      first = event.step;
      reached = event.step - 1;
      task = progress.begin(label, steps, 'steps', reached);
    } else {
      tokens += event.tokens;
      seconds += (now - since) / 1000;
    }
    since = now;
    task.advance(event.step - reached);
    reached = event.step;
    const speed = `loss ${event.loss.toFixed(4)}${seconds > 0 ? ` · ${count(tokens / seconds)} tokens/s` : ''}`;
    task.detail(speed);
    if (event.step % every === 0 || event.step === event.steps) {
      const left = ((event.steps - event.step) * seconds) / Math.max(1, event.step - first);
      const known = seconds > 0 || event.step === event.steps;
      progress.log?.(
        `  ${label}  step ${event.step}/${event.steps} · ${speed}${known ? ` · ${Math.ceil(left)} s left` : ''}`,
      );
    }
  };
  return {
    sink: (event) => {
      if (event.type === 'step') onStep(event);
      if (event.type === 'warning') {
        warnings.push({ code: event.code, message: event.message });
        progress.note(`  ${event.code}: ${event.message}`);
      }
      if (event.type === 'validation') {
        const point = { step: event.step, value: event.value, best: event.best };
        points.set(event.step, point);
        appendFileSync(curve, `${JSON.stringify(point)}\n`);
        const value = event.value === null ? 'not measured' : event.value.toFixed(4);
        since = performance.now();
        progress.note(`  step ${event.step}  ${event.metric} ${value}${event.best ? ' (best so far)' : ''}`);
      }
      listen(event);
    },
    end: (summary) => (task ?? progress.begin(label, steps, 'steps')).end(summary),
    watched: () => ({
      points: [...points.values()].sort((a, b) => a.step - b.step),
      warnings,
    }),
  };
}

/** A line that a kill cut short is left out: its step is measured again. */
function keptPoints(file: string): TrainingCurve['points'][number][] {
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8')
    .split('\n')
    .flatMap((line) => {
      try {
        return line === '' ? [] : [JSON.parse(line) as TrainingCurve['points'][number]];
      } catch {
        return [];
      }
    });
}

function count(value: number): string {
  return value >= 10_000 ? `${(value / 1000).toFixed(0)}k` : value.toFixed(0);
}
