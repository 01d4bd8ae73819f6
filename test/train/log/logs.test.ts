import { createServer, type Server } from 'node:http';
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import type { TrainEvent, TrainLogs } from '../../../src/contracts/index.ts';
import { openLogs } from '../../../src/train/log/open-logs.ts';
import type { LogLine } from '../../../src/train/log/training-log.ts';

let work: string;
beforeEach(async () => {
  work = await mkdtemp(join(tmpdir(), 'cupel-logs-'));
});
afterEach(() => rm(work, { recursive: true, force: true }));

const run = { name: 'tiny', parameters: { learningRate: 0.1, 'tuning.kind': 'full', recompute: false } };
const time = (step: number): string => new Date(1_700_000_000_000 + 1000 * step).toISOString();
const stepLine = (step: number): LogLine => ({
  type: 'step',
  step,
  steps: 3,
  loss: 1 / step,
  learningRate: 0.1,
  gradNorm: 2,
  tokens: 40,
  tokensPerSecond: 1000,
  metrics: { reward_margin: step / 8 },
  time: time(step),
});
const validationLine: LogLine = { type: 'validation', step: 2, metric: 'a/b', value: 0.75, best: true, time: time(2) };
const unmeasured: LogLine = { type: 'validation', step: 3, metric: 'a/b', value: null, best: false, time: time(3) };

async function write(
  logs: TrainLogs,
  lines: readonly LogLine[],
  fromStep = 0,
  measured = fromStep,
): Promise<TrainEvent[]> {
  const events: TrainEvent[] = [];
  const log = await openLogs(work, logs, run, { step: fromStep, measured }, (event) => events.push(event));
  for (const line of lines) await log.write(line);
  await log.close('finished');
  return events;
}
const lines = [stepLine(1), stepLine(2), validationLine, stepLine(3), unmeasured];

describe('log.jsonl', () => {
  it('holds one object a step, and no step twice when a run goes on', async () => {
    await write({}, lines);
    await writeFile(join(work, 'log.jsonl'), '{"type":"step","ste', { flag: 'a' });
    await write({}, [stepLine(2), stepLine(3)], 1);
    const text = await readFile(join(work, 'log.jsonl'), 'utf8');
    const kept = text.trim().split('\n');
    expect(kept.map((line) => JSON.parse(line) as LogLine)).toEqual([stepLine(1), stepLine(2), stepLine(3)]);
  });

  it('holds no measurement twice that was made after the last checkpoint', async () => {
    await write({}, [stepLine(1), stepLine(2), validationLine]);
    await write({}, [validationLine], 2, 1);
    const kept = (await readFile(join(work, 'log.jsonl'), 'utf8')).trim().split('\n');
    expect(kept.map((line) => JSON.parse(line) as LogLine)).toEqual([stepLine(1), stepLine(2), validationLine]);
  });

  it('that can not be opened is told, and the others are written', async () => {
    await mkdir(join(work, 'log.jsonl'), { recursive: true });
    const events = await write({ wandb: { project: 'p' } }, lines);
    expect(events).toEqual([
      expect.objectContaining({ type: 'warning', code: 'CUPEL_TRAIN_LOG_FAILED' }) as TrainEvent,
    ]);
    expect((await readFile(join(work, 'wandb', 'run.jsonl'), 'utf8')).trim().split('\n')).toHaveLength(6);
  });

  it('begins anew with a run that begins anew', async () => {
    await write({}, lines);
    await write({}, [stepLine(1)]);
    expect((await readFile(join(work, 'log.jsonl'), 'utf8')).trim().split('\n')).toHaveLength(1);
  });
});

/** Bit by bit, over the polynomial itself: nothing of the writer's table. */
function crc32c(bytes: Uint8Array): number {
  let remainder = 0xffffffff;
  for (const byte of bytes) {
    remainder ^= byte;
    for (let bit = 0; bit < 8; bit++) remainder = (remainder >>> 1) ^ (0x82f63b78 & -(remainder & 1));
  }
  return ~remainder >>> 0;
}
const unmask = (masked: number): number => {
  const rotated = (masked - 0xa282ead8) >>> 0;
  return ((rotated << 15) | (rotated >>> 17)) >>> 0;
};

/** Protocol buffer fields in order: [number, value]. */
function fields(bytes: Buffer): [field: number, value: number | Buffer][] {
  const found: [number, number | Buffer][] = [];
  let at = 0;
  const varint = (): number => {
    let [value, factor] = [0, 1];
    for (;;) {
      const byte = bytes.readUInt8(at++);
      value += (byte & 127) * factor;
      factor *= 128;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const key = varint();
    const [field, wire] = [key >>> 3, key & 7];
    if (wire === 0) found.push([field, varint()]);
    else if (wire === 1) found.push([field, bytes.readDoubleLE((at += 8) - 8)]);
    else if (wire === 5) found.push([field, bytes.readFloatLE((at += 4) - 4)]);
    else if (wire === 2) {
      const length = varint();
      found.push([field, bytes.subarray(at, (at += length))]);
    } else throw new Error(`wire type ${wire}`);
  }
  return found;
}

function readEvents(
  bytes: Buffer,
): { time: number; step: number; scalars: Record<string, number>; version?: string }[] {
  const events = [];
  for (let at = 0; at < bytes.length;) {
    const length = Number(bytes.readBigUInt64LE(at));
    expect(unmask(bytes.readUInt32LE(at + 8))).toBe(crc32c(bytes.subarray(at, at + 8)));
    const data = bytes.subarray(at + 12, at + 12 + length);
    expect(unmask(bytes.readUInt32LE(at + 12 + length))).toBe(crc32c(data));
    at += 16 + length;
    const members = new Map(fields(data));
    const summary = members.get(5);
    const values =
      summary === undefined ? [] : fields(summary as Buffer).map(([, value]) => new Map(fields(value as Buffer)));
    events.push({
      time: members.get(1) as number,
      step: (members.get(2) as number | undefined) ?? 0,
      scalars: Object.fromEntries(values.map((value) => [String(value.get(1)), value.get(2) as number])),
      ...(members.has(3) && { version: String(members.get(3)) }),
    });
  }
  return events;
}

describe('TensorBoard event files', () => {
  it('have checksums that know a test vector', () => {
    // RFC 3720, B.4: 32 bytes of zeros.
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
  });

  it('hold the scalars by name, step and time, once each, also when a run goes on', async () => {
    await write({ tensorboard: true }, lines);
    await write({ tensorboard: true }, [stepLine(3), unmeasured], 2);
    const folder = join(work, 'tensorboard');
    const names = await readdir(folder);
    expect(names).toHaveLength(1);
    expect(names[0]).toMatch(/^events\.out\.tfevents\.\d{10}\./);
    const [head, ...events] = readEvents(await readFile(join(folder, names[0] as string)));
    expect(head?.version).toBe('brain.Event:2');
    expect(events.map(({ step }) => step)).toEqual([1, 2, 2, 3]);
    expect(events[1]).toMatchObject({
      time: 1_700_000_002,
      scalars: {
        'train/loss': 0.5,
        'train/reward_margin': 0.25,
        'train/gradient_norm': 2,
        'train/tokens_per_second': 1000,
      },
    });
    expect(events[2]?.scalars).toEqual({ 'validation/a/b': 0.75 });
  });
});

describe('an MLflow file store', () => {
  it('has the run with its parameters and metrics, once each, also when a run goes on', async () => {
    const mlflow = { uri: join(work, 'mlruns'), experiment: 'tickets: dpo' };
    await write({ mlflow }, lines);
    await write({ mlflow }, [stepLine(3)], 2);
    const [experiment] = await readdir(mlflow.uri);
    const [id, ...others] = (await readdir(join(mlflow.uri, experiment as string))).filter(
      (name) => name !== 'meta.yaml',
    );
    expect(others).toEqual([]);
    const folder = join(mlflow.uri, experiment as string, id as string);
    const meta = parse(await readFile(join(folder, 'meta.yaml'), 'utf8')) as Record<string, unknown>;
    expect(meta).toMatchObject({ run_id: id, run_name: 'tiny', status: 3, lifecycle_stage: 'active' });
    expect(parse(await readFile(join(mlflow.uri, experiment as string, 'meta.yaml'), 'utf8'))).toMatchObject({
      name: 'tickets: dpo',
      experiment_id: experiment,
    });
    expect(await readFile(join(folder, 'params', 'learningRate'), 'utf8')).toBe('0.1');
    expect(await readFile(join(folder, 'metrics', 'train', 'loss'), 'utf8')).toBe(
      `1700000001000 1 1\n1700000002000 0.5 2\n1700000003000 ${1 / 3} 3\n`,
    );
    expect(await readFile(join(folder, 'metrics', 'validation', 'a', 'b'), 'utf8')).toBe('1700000002000 0.75 2\n');
  });
});

describe('an MLflow server', () => {
  let server: Server;
  let uri: string;
  let calls: { path: string; body: Record<string, unknown> }[];
  let answer: (path: string) => { status: number; body: unknown };
  beforeEach(async () => {
    calls = [];
    answer = (path) =>
      path.startsWith('experiments/get-by-name')
        ? { status: 404, body: { error_code: 'RESOURCE_DOES_NOT_EXIST' } }
        : { status: 200, body: { experiment_id: '7', run: { info: { run_id: 'abc' } } } };
    server = createServer((request, response) => {
      let text = '';
      request.on('data', (chunk: Buffer) => (text += chunk.toString()));
      request.on('end', () => {
        const path = (request.url ?? '').replace('/api/2.0/mlflow/', '');
        calls.push({ path, body: text === '' ? {} : (JSON.parse(text) as Record<string, unknown>) });
        const { status, body } = answer(path);
        response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    uri = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterEach(() => new Promise((resolve) => server.close(resolve)));

  const metrics = (): { key: string; value: number; step: number }[] =>
    calls.flatMap(({ body }) => (body['metrics'] as { key: string; value: number; step: number }[] | undefined) ?? []);

  it('is told by its REST interface: experiment, run, parameters, metrics, end', async () => {
    expect(await write({ mlflow: { uri, experiment: 'tickets dpo' } }, lines)).toEqual([]);
    expect(calls.map(({ path }) => path)).toEqual([
      'experiments/get-by-name?experiment_name=tickets%20dpo',
      'experiments/create',
      'runs/create',
      'runs/log-batch',
      'runs/log-batch',
      'runs/update',
    ]);
    expect(calls[2]?.body).toMatchObject({ experiment_id: '7', run_name: 'tiny' });
    expect(calls[3]?.body['params']).toContainEqual({ key: 'learningRate', value: '0.1' });
    expect(
      metrics()
        .filter(({ key }) => key === 'train/loss')
        .map(({ step }) => step),
    ).toEqual([1, 2, 3]);
    expect(calls.at(-1)?.body).toMatchObject({ run_id: 'abc', status: 'FINISHED' });
  });

  it('sees a run that goes on as the same run, without a step twice', async () => {
    await write({ mlflow: { uri, experiment: 'x' } }, lines.slice(0, 2));
    await write({ mlflow: { uri, experiment: 'x' } }, [stepLine(2), stepLine(3)], 1);
    expect(calls.filter(({ path }) => path === 'runs/create')).toHaveLength(1);
    expect(calls.filter(({ path }) => path === 'runs/update').map(({ body }) => body['status'])).toEqual([
      'FINISHED',
      'RUNNING',
      'FINISHED',
    ]);
    expect(
      metrics()
        .filter(({ key }) => key === 'train/loss')
        .map(({ step }) => step),
    ).toEqual([1, 2, 3]);
  });

  it('is told a measurement that came after the last message, and begins anew where its memory is damaged', async () => {
    await write({ mlflow: { uri, experiment: 'x' } }, lines.slice(0, 2));
    await writeFile(join(work, 'log.jsonl'), `${JSON.stringify(validationLine)}\n`, { flag: 'a' });
    await write({ mlflow: { uri, experiment: 'x' } }, [stepLine(3)], 2);
    expect(metrics()).toContainEqual(expect.objectContaining({ key: 'validation/a/b', value: 0.75, step: 2 }));
    await writeFile(join(work, 'mlflow.json'), '{"uri":');
    expect(await write({ mlflow: { uri, experiment: 'x' } }, [stepLine(3)], 2)).toEqual([]);
    expect(calls.filter(({ path }) => path === 'runs/create')).toHaveLength(2);
  });

  it('that fails is told once, and the log goes on without it', async () => {
    answer = () => ({ status: 500, body: { message: 'full' } });
    const events = await write({ mlflow: { uri, experiment: 'x' }, tensorboard: true }, lines);
    expect(events).toEqual([
      {
        type: 'warning',
        code: 'CUPEL_TRAIN_LOG_FAILED',
        message: 'MLflow: experiments/create answered 500: {"message":"full"}; nothing more is written there',
      },
    ]);
    expect((await readFile(join(work, 'log.jsonl'), 'utf8')).trim().split('\n')).toHaveLength(5);
  });
});

describe('a Weights & Biases export', () => {
  it('is a plain file with a script that reads it', async () => {
    await write({ wandb: { project: 'tickets' } }, lines);
    await write({ wandb: { project: 'tickets' } }, [stepLine(3)], 2);
    const text = await readFile(join(work, 'wandb', 'run.jsonl'), 'utf8');
    const [head, ...steps] = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(head).toEqual({ project: 'tickets', name: 'tiny', config: run.parameters });
    expect(steps.map(({ step }) => step)).toEqual([1, 2, 2, 3]);
    expect(steps[0]).toMatchObject({ time: 1_700_000_001, values: { 'train/loss': 1 } });
    expect(await readFile(join(work, 'wandb', 'import_run.py'), 'utf8')).toContain(
      'wandb.init(project=head["project"]',
    );
  });
});
