import { appendFile, readFile } from 'node:fs/promises';
import { writeFileAtomic } from '../../kit/index.ts';
import type { LogLine, TrainingLog } from './training-log.ts';

/** Up to where the lines of an earlier attempt count. */
export interface KeptLines {
  /** Step that the run goes on from; 0: none is kept. */
  readonly step: number;
  /** Last step whose measurement the run knows; later ones are measured again. */
  readonly measured: number;
}

/**
 * `log.jsonl`: one object a step, and one a validation. A run that goes on keeps what was written up to the step that it
 * goes on from, so that nothing stands there twice; a half-written last line is left out.
 * @returns the log and the lines that it kept
 */
export async function openJsonlLog(
  file: string,
  from: KeptLines,
): Promise<{ readonly log: TrainingLog; readonly past: readonly LogLine[] }> {
  const text = from.step === 0 ? '' : await readFile(file, 'utf8').catch(() => '');
  const past = text.split('\n').flatMap((line) => {
    const value = parsed(line);
    const last = value?.type === 'validation' ? from.measured : from.step;
    return value !== null && value.step <= last ? [value] : [];
  });
  await writeFileAtomic(file, past.map((line) => `${JSON.stringify(line)}\n`).join(''));
  const log: TrainingLog = {
    write: (line) => appendFile(file, `${JSON.stringify(line)}\n`),
    close: () => Promise.resolve(),
  };
  return { log, past };
}

function parsed(line: string): LogLine | null {
  try {
    const value = JSON.parse(line) as Partial<LogLine>;
    return (value.type === 'step' || value.type === 'validation') && typeof value.step === 'number'
      ? (value as LogLine)
      : null;
  } catch {
    return null;
  }
}
