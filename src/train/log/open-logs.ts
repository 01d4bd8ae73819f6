import { join } from 'node:path';
import type { TrainEvent, TrainLogs } from '../../contracts/index.ts';
import { type KeptLines, openJsonlLog } from './jsonl.ts';
import { openMlflowLog } from './mlflow.ts';
import { openTensorboardLog } from './tensorboard.ts';
import type { LogLine, RunDescription, TrainingLog } from './training-log.ts';
import { openWandbLog } from './wandb.ts';
import { warn } from '../warn.ts';

/**
 * The log of a run in its work folder, and the others that a person asked for. A log that fails is told once and left:
 * it never stops a training.
 */
export async function openLogs(
  work: string,
  logs: TrainLogs,
  run: RunDescription,
  from: KeptLines,
  sink: (event: TrainEvent) => void,
): Promise<TrainingLog> {
  const open: TrainingLog[] = [];
  let past: readonly LogLine[] = [];
  const add = async (name: string, opening: () => Promise<TrainingLog>): Promise<void> => {
    try {
      open.push(guarded(await opening(), name, sink));
    } catch (error) {
      tell(name, error, sink);
    }
  };
  await add('log.jsonl', async () => {
    const opened = await openJsonlLog(join(work, 'log.jsonl'), from);
    past = opened.past;
    return opened.log;
  });
  const { mlflow, wandb } = logs;
  if (logs.tensorboard === true) await add('TensorBoard', () => openTensorboardLog(join(work, 'tensorboard'), past));
  if (mlflow !== undefined) await add('MLflow', () => openMlflowLog(mlflow, work, run, past));
  if (wandb !== undefined) await add('Weights & Biases', () => openWandbLog(join(work, 'wandb'), wandb, run, past));
  return {
    async write(line) {
      for (const one of open) await one.write(line);
    },
    async close(end) {
      for (const one of open) await one.close(end);
    },
  };
}

function guarded(log: TrainingLog, name: string, sink: (event: TrainEvent) => void): TrainingLog {
  let failed = false;
  const guard = async (act: () => Promise<void>): Promise<void> => {
    if (failed) return;
    try {
      await act();
    } catch (error) {
      failed = true;
      tell(name, error, sink);
    }
  };
  return { write: (line) => guard(() => log.write(line)), close: (end) => guard(() => log.close(end)) };
}

function tell(name: string, error: unknown, sink: (event: TrainEvent) => void): void {
  const { message, cause } = error as Error;
  const reason = cause instanceof Error ? ` (${cause.message})` : '';
  warn(sink, 'CUPEL_TRAIN_LOG_FAILED', `${name}: ${message}${reason}; nothing more is written there`);
}
