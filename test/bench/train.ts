// The native learner beside PyTorch in the same run. stdout is the table, stderr the progress. Never fails on a figure.
import { existsSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { completed, writeLlama } from './lib/llama-folder.ts';
import { pythonWith } from './lib/python.ts';
import { median } from './lib/statistics.ts';
import { figure, table } from './lib/table.ts';
import { torchPackages } from './lib/torch-packages.ts';
import { measure, type Measured, ourSide, type Side, torchSide } from './train/measure.ts';
import { type Job, shapes, type Work, works } from './train/works.ts';

const root = fileURLToPath(new URL('../../.cache/bench', import.meta.url));
const peerVersion = `torch ${torchPackages.torch}`;
const usage = 'npm run bench:train -- [--json] [--quick] [--only <work>,…] [--threads 1,2] [--python <interpreter>]';

interface Row {
  readonly work: string;
  readonly threads: number;
  readonly unit: Work['unit'];
  readonly ours: number | null;
  readonly peer: number | null;
  readonly peerVersion: string;
  /** Ours ÷ peer for rates, peer ÷ ours for the rest. */
  readonly ratio: number | null;
  readonly limit: null;
  readonly must: number;
  readonly goal: number;
  /** The same by CPU time, for rates. */
  readonly ratioCpu: number | null;
  readonly oursSpread: number | null;
  readonly peerSpread: number | null;
  readonly note?: string;
}

const progress = (text: string): void => void process.stderr.write(`${text}\n`);
const values = flags();
const ids = values.only?.split(',') ?? works.map(({ id }) => id);
const unknown = ids.filter((id) => !works.some((work) => work.id === id));
if (unknown.length > 0)
  refuse(`no work is called ${unknown.join(', ')}; there are ${works.map(({ id }) => id).join(', ')}`);
const threadCounts = values.threads.split(',').map(Number);
if (!threadCounts.every((count) => Number.isSafeInteger(count) && count > 0)) refuse(`--threads is ${values.threads}`);

progress('making the models and the Python environment, where they are not there yet');
const peer = peerSide();
const cache = new Map<string, Promise<Measured[] | { readonly failure: string }>>();
const rows: Row[] = [];
for (const work of works.filter(({ id }) => ids.includes(id)))
  for (const threads of work.unit === 'ratio' ? [2] : threadCounts) {
    const row = await rowOf(work, threads);
    rows.push(row);
    if (values.json) process.stdout.write(`${JSON.stringify(row)}\n`);
  }
if (!values.json) process.stdout.write(`${report()}\n`);

async function rowOf(work: Work, threads: number): Promise<Row> {
  const { recompute: _, ...same } = work.job;
  const peerJob: Job = { ...same, compute: work.peerCompute };
  const ours = await samples('ours', ourSide(), work.job, threads);
  const theirs = 'failure' in peer ? peer : await samples('peer', peer, peerJob, threads);
  const failure = 'failure' in ours ? ours.failure : 'failure' in theirs ? theirs.failure : undefined;
  const [a, b] = await Promise.all([value(work, ours, work.job, 'ours'), value(work, theirs, peerJob, 'peer')]);
  const cpu = (all: typeof ours): number | null =>
    'failure' in all || work.unit !== 'tokens/s' ? null : median(all.map(({ cpuRate }) => cpuRate));
  const [cpuOurs, cpuPeer] = [cpu(ours), cpu(theirs)];
  return {
    work: work.id,
    threads,
    unit: work.unit,
    ours: a,
    peer: b,
    peerVersion,
    ratio: a === null || b === null ? null : work.unit === 'tokens/s' ? a / b : b / a,
    limit: null,
    must: work.must,
    goal: work.goal,
    ratioCpu: cpuOurs === null || cpuPeer === null ? null : cpuOurs / cpuPeer,
    oursSpread: 'failure' in ours ? null : Math.max(...ours.map(({ spread }) => spread)),
    peerSpread: 'failure' in theirs ? null : Math.max(...theirs.map(({ spread }) => spread)),
    ...(failure === undefined ? {} : { note: failure }),
  };
}

async function value(
  work: Work,
  all: Measured[] | { readonly failure: string },
  job: Job,
  name: 'ours' | 'peer',
): Promise<number | null> {
  if ('failure' in all) return null;
  if (work.unit === 'tokens/s') return median(all.map(({ rate }) => rate));
  if (work.unit === 'MiB') return median(all.map(({ peak }) => peak)) / 2 ** 20;
  if (work.unit === 's') return median(all.map(({ firstStep }) => firstStep));
  const alone = await samples(name, name === 'ours' ? ourSide() : (peer as Side), job, 1);
  if ('failure' in alone) return null;
  return median(all.map(({ cpuSeconds }) => cpuSeconds)) / median(alone.map(({ cpuSeconds }) => cpuSeconds));
}

/** Measurements of one side at one job; rows that look at the same job share them. */
function samples(name: string, side: Side, job: Job, threads: number): Promise<Measured[] | { failure: string }> {
  const key = JSON.stringify([name, job, threads]);
  const known = cache.get(key);
  if (known !== undefined) return known;
  const found = (async () => {
    const all: Measured[] = [];
    const processes = values.quick ? 1 : 3;
    for (let index = 0; index < processes; index++) {
      progress(
        `${name}: ${job.model} ${job.tuning} ${job.compute}, ${threads} threads, process ${index + 1} of ${processes}`,
      );
      try {
        const folder = await modelFolder(job.model);
        all.push(await measure(side, job, { folder, threads, steps: values.quick ? 3 : 5 }));
      } catch (error) {
        return { failure: `${name}: ${(error as Error).message}` };
      }
    }
    return all;
  })();
  cache.set(key, found);
  return found;
}

async function modelFolder(name: Job['model']): Promise<string> {
  const folder = join(root, `train-${name}-1`);
  if (!existsSync(folder))
    await completed(folder, (temporary) => writeLlama(temporary, shapes[name], { seed: 7, specialTokens: 0 }));
  return folder;
}

function peerSide(): Side | { readonly failure: string } {
  try {
    return torchSide(values.python ?? pythonWith(join(root, 'torch'), torchPackages));
  } catch (error) {
    progress(`peer: ${(error as Error).message}`);
    return { failure: `peer: ${(error as Error).message}` };
  }
}

function flags() {
  try {
    return parseArgs({
      options: {
        json: { type: 'boolean', default: false },
        quick: { type: 'boolean', default: false },
        only: { type: 'string' },
        threads: { type: 'string', default: '1,2' },
        python: { type: 'string' },
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

function report(): string {
  const head = ['work', 'threads', 'unit', 'ours', 'peer', 'ratio', 'by CPU time', 'must', 'goal', 'spread'];
  const lines = rows.map((row) => {
    const bound = (limit: number): string => (row.unit === 'tokens/s' ? `${limit} ×` : `≤ ${limit} ${row.unit}`);
    return [
      works.find(({ id }) => id === row.work)?.title ?? row.work,
      String(row.threads),
      row.unit,
      figure(row.ours),
      figure(row.peer),
      figure(row.ratio),
      figure(row.ratioCpu),
      bound(row.must),
      bound(row.goal),
      [row.oursSpread, row.peerSpread]
        .map((each) => (each === null ? '–' : `±${Math.round(100 * each)} %`))
        .join(' / '),
    ];
  });
  const notes = rows.flatMap(({ work, threads, note }) => (note === undefined ? [] : [`${work}, ${threads}: ${note}`]));
  const processors = cpus();
  const machine = `${processors[0]?.model.trim() ?? 'processor unknown'}, ${processors.length} processors, load ${(loadavg()[0] as number).toFixed(1)}; ratios are ours ÷ peer for rates and peer ÷ ours for the rest`;
  return [table(head, lines), '', ...notes, machine].join('\n');
}
