import type { Progress, ProgressTask } from '../contracts/index.ts';
import { harmless } from './visible.ts';

export interface ProgressStream {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

/** Progress for people: one live line on a terminal, nothing but notes when piped, nothing at all when quiet. */
export function openProgress(
  stream: ProgressStream,
  mode: 'live' | 'notes' | 'quiet',
  now: () => number = Date.now,
): Progress {
  const note = (text: string): void => {
    if (mode !== 'quiet') stream.write(`${mode === 'live' ? '\r\x1b[K' : ''}${harmless(text)}\n`);
  };
  return {
    note,
    ...(mode === 'notes' ? { log: note } : {}),
    begin: (label, total, unit, before = 0) =>
      mode === 'live' ? liveTask(stream, label, total, unit, before, now, note) : silentTask,
  };
}

const silentTask: ProgressTask = { advance: () => {}, detail: () => {}, end: () => {} };

function liveTask(
  stream: ProgressStream,
  label: string,
  total: number | null,
  unit: string,
  before: number,
  now: () => number,
  note: (text: string) => void,
): ProgressTask {
  const started = now();
  let done = before;
  let detail = '';
  let drawn = 0;
  const draw = (force = false): void => {
    const time = now();
    if (!force && time - drawn < 100) return;
    drawn = time;
    const seconds = Math.max(0.001, (time - started) / 1000);
    const rate = (done - before) / seconds;
    const left = total !== null && rate > 0 ? ` · ${duration((total - done) / rate)} left` : '';
    const count = total === null ? `${done} ${unit}` : `${done}/${total} ${unit}`;
    const line = `  ${label}  ${total === null ? '' : bar(done / total)} ${count} · ${rate >= 10 ? rate.toFixed(0) : rate.toFixed(1)}/s${left}${detail === '' ? '' : ` · ${detail}`}`;
    stream.write(`\r\x1b[K${line.slice(0, (stream.columns ?? 100) - 1)}`);
  };
  return {
    advance: (by = 1) => {
      done += by;
      draw();
    },
    detail: (text) => {
      detail = text;
      draw();
    },
    end: (summary) => {
      stream.write('\r\x1b[K');
      if (summary !== undefined) note(`  ${label}  ${summary}`);
    },
  };
}

function bar(share: number): string {
  const width = 20;
  const full = Math.round(Math.min(1, Math.max(0, share)) * width);
  return `${'━'.repeat(full)}${'─'.repeat(width - full)}`;
}

/** 75 → `1m 15s`. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?';
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${whole % 60}s`;
  return `${Math.floor(whole / 3600)}h ${Math.floor((whole % 3600) / 60)}m`;
}
