// Runs one row: both sides in turn, each in a process of its own that does nothing else.
import { leastLoad, leastMemory, leastSeconds, type Limits } from './limits.ts';
import { SideProcess } from './process.ts';
import { spread, median } from '../lib/statistics.ts';
import type { EvaluationTask, Measured, OpenRequest, Task } from './task.ts';
import { constraintShare, type Work } from './works.ts';

export interface Row {
  readonly work: string;
  readonly threads: number;
  readonly unit: string;
  readonly ours: number | null;
  readonly peer: number | null;
  readonly peerVersion: string;
  /** Ours ÷ peer where more is better, peer ÷ ours where less is. */
  readonly ratio: number | null;
  /** The least or most that the machine allows, in the unit. */
  readonly limit: number | null;
  readonly must: number | null;
  readonly goal: number | null;
  /** The same by processor time: work ÷ CPU seconds × threads. */
  readonly oursCpu: number | null;
  readonly peerCpu: number | null;
  readonly ratioCpu: number | null;
  /** Half of the range of the repetitions over their median. */
  readonly oursSpread: number | null;
  readonly peerSpread: number | null;
  readonly repetitions: number;
  readonly note?: string;
}

export interface Plan {
  readonly threads: number;
  readonly repetitions: number;
  readonly limits: Limits | null;
  readonly peerVersion: string;
  readonly ours: OpenRequest | { readonly missing: string };
  readonly peer: OpenRequest | { readonly missing: string };
}

interface Samples {
  readonly measured: Measured[];
  readonly compared: Measured[];
  readonly loads: Measured[];
  peak: number;
  failure?: string;
}

type SideName = 'ours' | 'peer';

/** Rows of works that are one task seen from different sides: the first one's task is done, once for all. */
export async function measureRows(works: readonly [Work, ...Work[]], plan: Plan): Promise<Row[]> {
  const [work] = works;
  const sides: Record<SideName, Samples> = { ours: empty(), peer: empty() };
  const repetitions = work.kind === 'agreement' ? 1 : plan.repetitions;
  if (work.kind === 'load') await measureLoads(plan, repetitions, sides);
  else await measureTasks(work, plan, repetitions, sides);
  return works.map((each) => summarize(each, plan, repetitions, sides));
}

function empty(): Samples {
  return { measured: [], compared: [], loads: [], peak: 0 };
}

async function measureLoads(plan: Plan, repetitions: number, sides: Record<SideName, Samples>): Promise<void> {
  for (let repetition = 0; repetition <= repetitions; repetition++) {
    for (const name of ['ours', 'peer'] as const) {
      await attempt(sides[name], plan[name], async (request) => {
        const { process, opened } = await SideProcess.start(request);
        await process.stop();
        // The first round brings the files into memory.
        if (repetition > 0) sides[name].loads.push({ amount: 1, ...opened });
      });
    }
  }
}

async function measureTasks(
  work: Work,
  plan: Plan,
  repetitions: number,
  sides: Record<SideName, Samples>,
): Promise<void> {
  const running: Partial<Record<SideName, SideProcess>> = {};
  const tasks: Record<SideName, Task> = { ours: work.task, peer: work.peerTask ?? work.task };
  const run = async (name: SideName, repetition: number): Promise<void> => {
    const process = running[name];
    if (process === undefined) return;
    await attempt(sides[name], plan[name], async () => {
      const task = tasks[name];
      const first = await process.run(task, repetition);
      const second =
        task.kind === 'constrained' ? await process.run({ ...task, constrained: false }, repetition) : undefined;
      if (repetition > 0) {
        sides[name].measured.push(first);
        if (second !== undefined) sides[name].compared.push(second);
      }
      sides[name].peak = process.peakGrowth;
    });
  };
  try {
    for (const name of ['ours', 'peer'] as const) {
      await attempt(sides[name], plan[name], async (request) => {
        running[name] = (await SideProcess.start(request)).process;
      });
    }
    for (let repetition = work.long ? 1 : 0; repetition <= repetitions; repetition++) {
      const order = repetition % 2 === 0 ? (['peer', 'ours'] as const) : (['ours', 'peer'] as const);
      for (const name of order) await run(name, repetition);
    }
  } finally {
    for (const process of Object.values(running)) await process.stop();
  }
}

/** A side that fails is left out of the row, with its reason; a bench never fails on it. */
async function attempt(
  samples: Samples,
  request: Plan[SideName],
  work: (request: OpenRequest) => Promise<void>,
): Promise<void> {
  if (samples.failure !== undefined) return;
  try {
    if ('missing' in request) samples.failure = request.missing;
    else await work(request);
  } catch (error) {
    samples.failure = (error as Error).message;
  }
}

function summarize(work: Work, plan: Plan, repetitions: number, sides: Record<SideName, Samples>): Row {
  const values = { ours: valuesOf(work, sides.ours), peer: valuesOf(work, sides.peer) };
  const cpu = { ours: cpuOf(work, plan, sides.ours), peer: cpuOf(work, plan, sides.peer) };
  const [ours, peer] = [middle(values.ours), middle(values.peer)];
  const [oursCpu, peerCpu] = [middle(cpu.ours), middle(cpu.peer)];
  const lessIsBetter = work.kind === 'memory' || work.kind === 'load';
  const ratio = (our: number | null, their: number | null): number | null => {
    if (our === null || their === null || work.kind === 'share' || work.kind === 'agreement') return null;
    return lessIsBetter ? their / our : our / their;
  };
  const notes = (['ours', 'peer'] as const).flatMap((name) => {
    const { failure } = sides[name];
    return failure === undefined ? [] : [`${name}: ${failure.split('\n')[0] as string}`];
  });
  return {
    work: work.id,
    threads: plan.threads,
    unit: work.unit,
    ours,
    peer,
    peerVersion: plan.peerVersion,
    ratio: ratio(ours, peer),
    limit: limitOf(work, plan),
    must: work.kind === 'share' ? 100 * constraintShare.must : work.must,
    goal: work.kind === 'share' ? 100 * constraintShare.goal : work.goal,
    oursCpu,
    peerCpu,
    ratioCpu: ratio(oursCpu, peerCpu),
    oursSpread: values.ours.length > 1 && work.kind !== 'memory' ? spread(values.ours) : null,
    peerSpread: values.peer.length > 1 && work.kind !== 'memory' ? spread(values.peer) : null,
    repetitions,
    ...(notes.length === 0 ? {} : { note: notes.join('; ') }),
  };
}

function middle(values: readonly number[]): number | null {
  return values.length === 0 ? null : median(values);
}

function valuesOf(work: Work, { measured, compared, loads, peak }: Samples): number[] {
  switch (work.kind) {
    case 'rate':
      return measured.map(({ amount, seconds }) => amount / seconds);
    case 'load':
      return loads.map(({ seconds }) => seconds);
    case 'memory':
      return measured.length === 0 ? [] : [peak / 1e6];
    case 'agreement':
      return measured.map(({ amount }) => 100 * amount);
    case 'share':
      return measured.map((with_, index) => {
        const without = compared[index] as Measured;
        return 100 * (1 - without.seconds / without.amount / (with_.seconds / with_.amount));
      });
  }
}

function cpuOf(work: Work, { threads }: Plan, { measured, compared, loads }: Samples): number[] {
  switch (work.kind) {
    case 'rate':
      return measured.map(({ amount, cpuSeconds }) => (amount / cpuSeconds) * threads);
    case 'load':
      return loads.map(({ cpuSeconds }) => cpuSeconds);
    case 'share':
      return measured.map((with_, index) => {
        const without = compared[index] as Measured;
        return 100 * (1 - without.cpuSeconds / without.amount / (with_.cpuSeconds / with_.amount));
      });
    case 'memory':
    case 'agreement':
      return [];
  }
}

function limitOf(work: Work, { limits }: Plan): number | null {
  if (limits === null) return null;
  switch (work.kind) {
    case 'memory': {
      const { shared, own, generated } = work.task as EvaluationTask;
      return leastMemory(shared, own + generated, 1) / 1e6;
    }
    case 'load':
      return leastLoad(limits);
    case 'share':
    case 'agreement':
      return null;
    case 'rate': {
      const seconds = leastSeconds(work.task, limits);
      return seconds === null ? null : amountOf(work.task) / seconds;
    }
  }
}

function amountOf(task: Task): number {
  switch (task.kind) {
    case 'prefill':
    case 'constrained':
      return task.tokens;
    case 'decode':
      return task.tokens * task.sequences;
    case 'evaluation':
    case 'agreement':
      return task.prompts;
    case 'log-likelihood':
      return task.questions;
  }
}
