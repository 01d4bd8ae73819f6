import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TrainLogs } from '../../contracts/index.ts';
import { writeFileAtomic } from '../../kit/index.ts';
import { metricsOf } from './mlflow-metrics.ts';
import { openMlflowStore } from './mlflow-store.ts';
import type { LogLine, RunDescription, TrainingLog } from './training-log.ts';

interface Sent {
  readonly uri: string;
  readonly run: string;
  /** Last step that the server has. */
  readonly step: number;
}

/** Most metrics of one request. Source: MLflow REST API, `runs/log-batch`. */
const batchSize = 1000;
const patience = 10_000;

/**
 * MLflow tracking: over its REST API (2.0) where `uri` is an address, else as a file store in the folder `uri`. A run
 * that goes on goes on under the same MLflow run, which is remembered in `<work>/mlflow.json`.
 * Source: mlflow.org/docs/latest/rest-api.html
 */
export async function openMlflowLog(
  target: NonNullable<TrainLogs['mlflow']>,
  work: string,
  run: RunDescription,
  past: readonly LogLine[],
): Promise<TrainingLog> {
  if (!/^https?:\/\//.test(target.uri)) return openMlflowStore(target, run, past);
  const file = join(work, 'mlflow.json');
  let sent = past.length > 0 ? await remembered(file, target.uri) : null;
  if (sent !== null) await post(target.uri, 'runs/update', { run_id: sent.run, status: 'RUNNING' });
  sent ??= { uri: target.uri, run: await createRun(target, run), step: 0 };
  await writeFileAtomic(file, JSON.stringify(sent));
  const { run: id } = sent;
  const already = sent.step;
  // Of the last step a measurement may be missing. What comes twice, to the millisecond, the server keeps once.
  let waiting = past.filter(({ step }) => step >= already).flatMap(metricsOf);
  const flush = async (): Promise<void> => {
    const last = waiting.at(-1)?.step;
    for (let start = 0; start < waiting.length; start += batchSize) {
      await post(target.uri, 'runs/log-batch', { run_id: id, metrics: waiting.slice(start, start + batchSize) });
    }
    waiting = [];
    if (last !== undefined) await writeFileAtomic(file, JSON.stringify({ ...sent, step: last }));
  };
  let flushed = Date.now();
  return {
    async write(line) {
      if (line.step > already || (line.type === 'validation' && line.step === already))
        waiting.push(...metricsOf(line));
      if (Date.now() - flushed < 2000) return;
      await flush();
      flushed = Date.now();
    },
    async close(end) {
      await flush();
      const status = { finished: 'FINISHED', failed: 'FAILED', stopped: 'KILLED' }[end];
      await post(target.uri, 'runs/update', { run_id: id, status, end_time: Date.now() });
    },
  };
}

async function createRun(target: NonNullable<TrainLogs['mlflow']>, run: RunDescription): Promise<string> {
  const created = (await post(target.uri, 'runs/create', {
    experiment_id: await experimentId(target),
    run_name: run.name,
    start_time: Date.now(),
  })) as { readonly run: { readonly info: { readonly run_id: string } } };
  const id = created.run.info.run_id;
  const params = Object.entries(run.parameters).map(([key, value]) => ({ key, value: String(value).slice(0, 500) }));
  for (let start = 0; start < params.length; start += 100) {
    await post(target.uri, 'runs/log-batch', { run_id: id, params: params.slice(start, start + 100) });
  }
  return id;
}

async function experimentId({ uri, experiment }: NonNullable<TrainLogs['mlflow']>): Promise<string> {
  const query = `experiments/get-by-name?experiment_name=${encodeURIComponent(experiment)}`;
  const found = await fetch(address(uri, query), { signal: AbortSignal.timeout(patience) });
  if (found.ok) return ((await found.json()) as { experiment: { experiment_id: string } }).experiment.experiment_id;
  const created = await post(uri, 'experiments/create', { name: experiment });
  return (created as { readonly experiment_id: string }).experiment_id;
}

async function post(uri: string, path: string, body: unknown): Promise<unknown> {
  const reply = await fetch(address(uri, path), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(patience),
  });
  if (!reply.ok) throw new Error(`${path} answered ${reply.status}: ${(await reply.text()).slice(0, 200)}`);
  return reply.json();
}

function address(uri: string, path: string): string {
  return `${uri.replace(/\/+$/, '')}/api/2.0/mlflow/${path}`;
}

async function remembered(file: string, uri: string): Promise<Sent | null> {
  const text = await readFile(file, 'utf8').catch(() => null);
  if (text === null) return null;
  try {
    const sent = JSON.parse(text) as Sent;
    return sent.uri === uri && typeof sent.run === 'string' && Number.isInteger(sent.step) ? sent : null;
  } catch {
    return null;
  }
}
