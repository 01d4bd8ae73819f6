// Runs a job on both sides in turn, each time in a fresh process.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { median, spread } from '../lib/statistics.ts';
import { adapter, type Job, optimiser, tokensOf } from './works.ts';

/** One process: its first step and the undisturbed ones after it. */
export interface Measured {
  /** Process start to the end of the first step, seconds. */
  readonly firstStep: number;
  /** Tokens a second of wall time and of CPU time: medians of the steps after the first. */
  readonly rate: number;
  readonly cpuRate: number;
  readonly cpuSeconds: number;
  /** Bytes. */
  readonly peak: number;
  /** Of the last step: both sides see the same data and must fall alike. */
  readonly loss: number;
  readonly spread: number;
}

interface StepRecord {
  readonly step: number;
  readonly loss: number;
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly peak: number;
}

export interface Side {
  readonly program: string;
  readonly arguments: readonly string[];
}

export function ourSide(): Side {
  return { program: process.execPath, arguments: [fileURLToPath(new URL('our-side.mjs', import.meta.url))] };
}

export function torchSide(python: string): Side {
  return { program: python, arguments: [fileURLToPath(new URL('torch_side.py', import.meta.url))] };
}

export async function measure(
  side: Side,
  job: Job,
  given: { readonly folder: string; readonly threads: number; readonly steps: number },
): Promise<Measured> {
  const message = JSON.stringify({ ...given, job, adapter, optimiser, tokens: [...tokensOf(job)] });
  const start = performance.now();
  const child = spawn(side.program, [...side.arguments, message], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      OMP_NUM_THREADS: String(given.threads),
      HF_HUB_OFFLINE: '1',
      TOKENIZERS_PARALLELISM: 'false',
    },
  });
  let errors = '';
  child.stderr.on('data', (chunk: Buffer) => (errors = (errors + chunk.toString()).slice(-2000)));
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  const records: StepRecord[] = [];
  let firstStep = NaN;
  for await (const line of createInterface({ input: child.stdout })) {
    if (!line.startsWith('{')) continue;
    if (records.length === 0) firstStep = (performance.now() - start) / 1000;
    records.push(JSON.parse(line) as StepRecord);
  }
  const status = await ended;
  if (status !== 0 || records.length !== given.steps) throw new Error(`ended with ${String(status)}: ${errors.trim()}`);
  const later = records.slice(1);
  const count = job.sequences * job.length;
  const cpuSeconds = median(later.map((record) => record.cpuSeconds));
  return {
    firstStep,
    rate: count / median(later.map(({ seconds }) => seconds)),
    cpuRate: count / cpuSeconds,
    cpuSeconds,
    peak: Math.max(...records.map(({ peak }) => peak)),
    loss: records.at(-1)?.loss ?? NaN,
    spread: spread(later.map(({ seconds }) => seconds)),
  };
}
