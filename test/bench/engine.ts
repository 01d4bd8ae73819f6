// The native engine beside llama.cpp in the same run: a SmolLM2-135M-shaped model with random weights, Q8_0, made here.
// stdout is the table, stderr the progress. Never fails on a figure.
import { cpus, loadavg } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { measureLimits, type Limits } from './engine/limits.ts';
import { peerVersion } from './engine/llama-cpp.ts';
import { measureRows, type Plan, type Row } from './engine/measure.ts';
import { benchModel } from './engine/model.ts';
import { installPeers } from './engine/peers.ts';
import { works, type Work } from './engine/works.ts';
import { figure, table } from './lib/table.ts';

const root = fileURLToPath(new URL('../../.cache/bench', import.meta.url));
const usage = 'npm run bench:engine -- [--json] [--quick] [--only <work>,…] [--threads 1,2] [--repetitions n]';

const write = (text: string): void => void process.stdout.write(`${text}\n`);
const progress = (text: string): void => void process.stderr.write(`${text}\n`);

function flags() {
  try {
    return parseArgs({
      options: {
        json: { type: 'boolean', default: false },
        quick: { type: 'boolean', default: false },
        only: { type: 'string' },
        threads: { type: 'string', default: '1,2' },
        repetitions: { type: 'string' },
      },
    }).values;
  } catch (error) {
    return refuse((error as Error).message);
  }
}

function refuse(reason: string): never {
  progress(`${reason}\nusage: ${usage}`);
  process.exit(2);
}

function chosenWorks(): Work[] {
  const all = works(values.quick);
  if (values.only === undefined) return all;
  const ids = values.only.split(',');
  const unknown = ids.filter((id) => !all.some((work) => work.id === id));
  if (unknown.length > 0)
    refuse(`no work is called ${unknown.join(', ')}; there are ${all.map(({ id }) => id).join(', ')}`);
  return all.filter(({ id }) => ids.includes(id));
}

function wholeNumbers(name: string, text: string): number[] {
  const numbers = text.split(',').map(Number);
  if (numbers.every((value) => Number.isSafeInteger(value) && value >= 1 && value <= 1024)) return numbers;
  return refuse(`--${name} is ${text}; whole numbers from 1 were expected`);
}

function orMissing<Value>(what: string, work: () => Value): Value | { readonly missing: string } {
  try {
    return work();
  } catch (error) {
    progress(`${what}: ${(error as Error).message}`);
    return { missing: (error as Error).message };
  }
}

const values = flags();
const chosen = chosenWorks();
const threadCounts = wholeNumbers('threads', values.threads);
const [asked] = values.repetitions === undefined ? [] : wholeNumbers('repetitions', values.repetitions);
progress('making the model and installing the peer, where they are not there yet');
const model = await benchModel(root);
const peers = orMissing('peer', () => installPeers(root));

const rows: Row[] = [];
const machine: (Limits | null)[] = [];
for (const threads of threadCounts) {
  const measuredLimits = orMissing('limits', () => measureLimits(threads));
  const limits = 'missing' in measuredLimits ? null : measuredLimits;
  machine.push(limits);
  for (const group of groups(chosen)) {
    const [work] = group;
    const weights = work.weights === 'q8_0' ? model.q8 : model.w8a8;
    const plan: Plan = {
      threads,
      limits,
      repetitions: asked ?? repetitionsOf(work),
      peerVersion: `llama.cpp ${peerVersion.library}`,
      ours: { side: 'ours', model: weights, threads, peers: '' },
      peer: typeof peers === 'string' ? { side: 'peer', model: model.gguf, threads, peers } : peers,
    };
    progress(`${work.title}, ${threads} thread${threads === 1 ? '' : 's'}`);
    for (const row of await measureRows(group, plan)) {
      rows.push(row);
      if (values.json) write(JSON.stringify(row));
    }
  }
}
if (!values.json) write(report());

/** Works with equal tasks are measured together. */
function groups(all: readonly Work[]): [Work, ...Work[]][] {
  const found = new Map<string, [Work, ...Work[]]>();
  for (const work of all) {
    const key = work.kind === 'load' ? work.id : JSON.stringify([work.weights, work.task, work.peerTask]);
    const group = found.get(key);
    if (group === undefined) found.set(key, [work]);
    else group.push(work);
  }
  return [...found.values()];
}

function repetitionsOf(work: Work): number {
  if (work.long) return values.quick ? 1 : 3;
  return values.quick ? 3 : 5;
}

function report(): string {
  const head = [
    'work',
    'threads',
    'unit',
    'ours',
    'peer',
    'ratio',
    'must',
    'goal',
    'by CPU time',
    'limit',
    'of limit',
    'spread',
  ];
  const lines = rows.map((row) => {
    const { title, kind } = chosen.find(({ id }) => id === row.work) as Work;
    const bound = (value: number | null): string =>
      kind === 'share' && value !== null ? `≤ ${value} %` : figure(value);
    return [
      title,
      String(row.threads),
      row.unit,
      figure(row.ours),
      figure(row.peer),
      figure(row.ratio),
      bound(row.must),
      bound(row.goal),
      `${figure(row.oursCpu)} / ${figure(row.peerCpu)}${row.ratioCpu === null ? '' : ` = ${figure(row.ratioCpu)}`}`,
      figure(row.limit),
      ofLimit(row, kind),
      [row.oursSpread, row.peerSpread]
        .map((value) => (value === null ? '–' : `±${Math.round(100 * value)} %`))
        .join(' / '),
    ];
  });
  const notes = rows.flatMap(({ work, threads, note }) => (note === undefined ? [] : [`${work}, ${threads}: ${note}`]));
  return [table(head, lines), '', ...notes, ...machine.map(describeLimits), describeMachine()].join('\n');
}

function ofLimit({ ours, limit }: Row, kind: Work['kind']): string {
  if (ours === null || limit === null) return '–';
  return `${figure(100 * (kind === 'rate' ? ours / limit : limit / ours))} %`;
}

function describeLimits(limits: Limits | null, index: number): string {
  const threads = `${threadCounts[index] as number} threads:`;
  if (limits === null) return `${threads} the limits of the machine were not measured`;
  const { readBytesPerSecond, int8PerSecond, int8Unit, f32PerSecond } = limits;
  const giga = (value: number | null): string => (value === null ? 'not known' : figure(value / 1e9));
  return `${threads} read ${giga(readBytesPerSecond)} GB/s, int8 ${giga(int8PerSecond)} GOPS (${int8Unit}), f32 ${giga(f32PerSecond)} GFLOPS`;
}

function describeMachine(): string {
  const processors = cpus();
  const load = (loadavg()[0] as number).toFixed(1);
  return `${processors[0]?.model.trim() ?? 'processor unknown'}, ${processors.length} processors, load ${load}; ratios are ours ÷ peer, for memory and load peer ÷ ours`;
}
