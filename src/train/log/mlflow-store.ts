import { createHash } from 'node:crypto';
import { appendFile, mkdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { TrainLogs } from '../../contracts/index.ts';
import { writeFileAtomic } from '../../kit/index.ts';
import { metricsOf } from './mlflow-metrics.ts';
import type { LogLine, RunDescription, TrainingLog } from './training-log.ts';

/** Numbers of mlflow.entities.RunStatus. */
const status = { running: 1, finished: 3, failed: 4, stopped: 5 } as const;

/**
 * An MLflow file store (`mlruns`): `<experiment>/<run>/meta.yaml`, one file a parameter, one file a metric with lines
 * `milliseconds value step`. Ids are made of the names, so that a run that goes on writes its own files anew.
 * Source: mlflow/store/tracking/file_store.py. Read with MLflow 3.17, which asks for MLFLOW_ALLOW_FILE_STORE=true, or for
 * `mlflow migrate-filestore`, since file stores are in maintenance there.
 */
export async function openMlflowStore(
  { uri, experiment }: NonNullable<TrainLogs['mlflow']>,
  run: RunDescription,
  past: readonly LogLine[],
): Promise<TrainingLog> {
  const experimentId = BigInt(`0x${digest(experiment).slice(0, 14)}`).toString();
  const runId = digest(`${experiment}\n${run.name}`).slice(0, 32);
  const folder = join(uri, experimentId, runId);
  const start = past[0] === undefined ? Date.now() : Date.parse(past[0].time);
  await writeMeta(join(uri, experimentId), {
    artifact_location: pathToFileURL(join(uri, experimentId)).href,
    creation_time: start,
    experiment_id: experimentId,
    last_update_time: start,
    lifecycle_stage: 'active',
    name: experiment,
  });
  await rm(join(folder, 'metrics'), { recursive: true, force: true });
  for (const part of ['artifacts', 'metrics', 'params', 'tags']) await mkdir(join(folder, part), { recursive: true });
  const writeRun = (state: number, end: number | null): Promise<void> =>
    writeMeta(folder, {
      artifact_uri: pathToFileURL(join(folder, 'artifacts')).href,
      end_time: end,
      entry_point_name: '',
      experiment_id: experimentId,
      lifecycle_stage: 'active',
      run_id: runId,
      run_name: run.name,
      run_uuid: runId,
      source_name: '',
      source_type: 4,
      source_version: '',
      start_time: start,
      status: state,
      tags: [],
      user_id: '',
    });
  await writeRun(status.running, null);
  await writeFileAtomic(join(folder, 'tags', 'mlflow.runName'), run.name);
  for (const [name, value] of Object.entries(run.parameters)) {
    await writeFileAtomic(join(folder, 'params', safe(name)), String(value));
  }
  const add = async (lines: readonly LogLine[]): Promise<void> => {
    const byName = new Map<string, string[]>();
    for (const { key, value, timestamp, step } of lines.flatMap(metricsOf)) {
      const points = byName.get(key) ?? [];
      byName.set(key, points);
      points.push(`${timestamp} ${value} ${step}\n`);
    }
    for (const [key, points] of byName) await append(folder, key, points.join(''));
  };
  await add(past);
  return { write: (line) => add([line]), close: (end) => writeRun(status[end], Date.now()) };
}

async function append(folder: string, key: string, points: string): Promise<void> {
  const file = join(folder, 'metrics', ...key.split('/').map(safe));
  await mkdir(dirname(file), { recursive: true });
  await appendFile(file, points);
}

/** JSON values are YAML. */
function writeMeta(folder: string, values: Readonly<Record<string, unknown>>): Promise<void> {
  const lines = Object.entries(values).map(([name, value]) => `${name}: ${JSON.stringify(value)}\n`);
  return writeFileAtomic(join(folder, 'meta.yaml'), lines.join(''));
}

/** Names of files: letters, digits, `_`, `-`, `.`, space, as MLflow allows; never a step out of the folder. */
function safe(name: string): string {
  const allowed = name.replace(/[^\w\-. ]/g, '_');
  return /^\.*$/.test(allowed) ? `_${allowed}` : allowed;
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
