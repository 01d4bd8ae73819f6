import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, open, readFile, rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { EnvironmentOptions } from '../../src/contracts/index.ts';
import { codeRoot, digestOf, isCupelError, readText, sha256, takeClaim, writeFileAtomic } from '../../src/kit/index.ts';
import { trlErrors } from './errors.ts';

/** A Python environment of this trainer on disk. */
export interface Environment {
  readonly folder: string;
  readonly python: string;
  /** Version by package, of everything that is installed. */
  readonly installed: Readonly<Record<string, string>>;
  readonly pythonVersion: string;
}

const here = (name: string): string => join(codeRoot(), 'trainers', 'trl', name);
export const scriptFile = here('run_trl.py');

/** Pinned packages, name by version, as requirements.txt has them. */
export async function pins(): Promise<Readonly<Record<string, string>>> {
  const lines = (await readText(here('requirements.txt'))).split('\n').filter((line) => /^[a-z]/.test(line));
  return Object.fromEntries(lines.map((line) => line.trim().split('==') as [string, string]));
}

/** Folder of the environment: its name changes with the pins, so that an older one is never taken for it. */
export async function environmentFolder(environments: string): Promise<string> {
  return join(
    environments,
    `trl-${digestOf(await pins())
      .replace('sha256:', '')
      .slice(0, 12)}`,
  );
}

/** The environment as it lies there now; null: none, or not one that holds the pins. Asks Python itself. */
export async function findEnvironment(environments: string): Promise<Environment | null> {
  const folder = await environmentFolder(environments);
  const python = pythonIn(folder);
  if (!existsSync(python)) return null;
  const script =
    'import importlib.metadata as m, json, platform\n' +
    'print(json.dumps({"python": platform.python_version(),' +
    ' "installed": {d.metadata["Name"].lower(): d.version for d in m.distributions()}}))';
  const { code, output } = await runTool([python, '-I', '-c', script], null);
  if (code !== 0) return null;
  // The last line: what the user has Python print at its start is no answer.
  const found = parsed(output.trim().split('\n').at(-1) ?? '');
  if (found === null) return null;
  const missing = differences(await pins(), found.installed);
  return missing.length > 0 ? null : { folder, python, installed: found.installed, pythonVersion: found.python };
}

function parsed(line: string): { python: string; installed: Record<string, string> } | null {
  try {
    return JSON.parse(line) as { python: string; installed: Record<string, string> };
  } catch {
    return null;
  }
}

/** Pinned packages that are missing or of another version; a local part such as `+cpu` is no other version. */
export function differences(
  wanted: Readonly<Record<string, string>>,
  found: Readonly<Record<string, string | null>>,
): readonly string[] {
  return Object.entries(wanted)
    .filter(([name, version]) => found[name]?.split('+')[0] !== version)
    .map(([name, version]) => `${name} ${found[name] ?? 'missing'} (pinned: ${version})`);
}

/** What the marker of a passed self-test holds for: change any of it, and it must pass again. */
export async function environmentDigest(environment: Environment, pluginVersion: string): Promise<string> {
  return digestOf({
    pluginVersion,
    pins: await pins(),
    installed: environment.installed,
    python: environment.pythonVersion,
    script: sha256(await readFile(scriptFile)),
  });
}

/**
 * Makes the environment where it is missing: by uv where it is on the PATH, else by `python3 -m venv` and pip. Pins are
 * exact; what they need in turn is resolved now and recorded in environment.json. What an interrupted attempt left is
 * gone on with where it works, else made anew.
 * @throws CUPEL_TRL_SETUP with the command that failed, CUPEL_TRL_IN_USE where another process makes it
 */
export async function makeEnvironment(environments: string, options: EnvironmentOptions): Promise<Environment> {
  const found = await findEnvironment(environments);
  if (found !== null) return found;
  const folder = await environmentFolder(environments);
  try {
    await mkdir(folder, { recursive: true });
    const claim = await takeClaim(join(folder, 'setup'));
    if ('taken' in claim) {
      const { pid, file } = claim.taken;
      throw trlErrors.CUPEL_TRL_IN_USE({ message: `process ${pid} makes this environment`, where: file });
    }
    try {
      return await install(environments, folder, options);
    } finally {
      await claim.release();
    }
  } catch (cause) {
    if (isCupelError(cause) || (cause as NodeJS.ErrnoException).code === undefined || options.signal?.aborted === true)
      throw cause;
    throw trlErrors.CUPEL_TRL_SETUP({ message: (cause as Error).message, where: folder, cause });
  }
}

async function install(environments: string, folder: string, options: EnvironmentOptions): Promise<Environment> {
  const { note } = options;
  const log = join(folder, 'setup.log');
  const step = async (command: readonly [string, ...string[]]): Promise<void> => {
    note(command.join(' '));
    const { code, output } = await runTool(command, log, options.signal);
    if (code === 0) return;
    const how = code === null ? 'could not be run' : `ended with ${code}`;
    throw trlErrors.CUPEL_TRL_SETUP({
      message: `${command.join(' ')} ${how}: ${output.trim().split('\n').slice(-3).join(' | ').slice(-400)}`,
      where: log,
    });
  };
  const venv = join(folder, 'venv');
  const python = pythonIn(folder);
  const requirements = here('requirements.txt');
  const uv = (await runTool(['uv', '--version'], null)).code === 0;
  // An attempt that was interrupted may have left an interpreter without pip, or one whose own base is gone.
  const probe: [string, ...string[]] = uv ? [python, '-c', ''] : [python, '-m', 'pip', '--version'];
  if (!existsSync(python) || (await runTool(probe, null)).code !== 0) {
    const base = options.python ?? 'python3';
    await rm(venv, { recursive: true, force: true });
    await step(uv ? ['uv', 'venv', '--python', base, venv] : [base, '-m', 'venv', venv]);
  }
  note('installing the pinned packages and what they need: several gigabytes, several minutes');
  await step(
    uv
      ? ['uv', 'pip', 'install', '--python', python, '-r', requirements]
      : [python, '-m', 'pip', 'install', '--no-input', '-r', requirements],
  );
  const made = await findEnvironment(environments);
  if (made === null) {
    throw trlErrors.CUPEL_TRL_SETUP({ message: 'after installing, the pinned versions are not there', where: log });
  }
  const record = { python: made.pythonVersion, installed: made.installed };
  await writeFileAtomic(join(folder, 'environment.json'), `${JSON.stringify(record, null, 2)}\n`);
  return made;
}

/**
 * The environment variables of a training process: no network, no telemetry, nothing of the user's Python.
 * @param threads of each process; default: the machine's, shared out
 */
export function childEnvironment(processes: number, cache: string, threads?: number): Record<string, string> {
  const kept = ['PATH', 'HOME', 'LANG', 'LC_ALL', 'TMPDIR', 'LD_LIBRARY_PATH', 'CUDA_VISIBLE_DEVICES', 'CUDA_HOME'];
  const inherited = kept.flatMap((name) => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  // What a cluster says of its network cards and of paths between GPUs that do not work.
  const network = Object.entries(process.env).flatMap(([name, value]) =>
    /^(NCCL|GLOO)_/.test(name) && value !== undefined ? [[name, value] as const] : [],
  );
  const share = threads ?? Math.max(1, Math.floor(availableParallelism() / processes));
  return {
    ...Object.fromEntries([...inherited, ...network]),
    HF_HUB_OFFLINE: '1',
    HF_DATASETS_OFFLINE: '1',
    HF_HUB_DISABLE_TELEMETRY: '1',
    HF_HOME: cache,
    TOKENIZERS_PARALLELISM: 'false',
    WANDB_DISABLED: 'true',
    PYTHONNOUSERSITE: '1',
    PYTHONUNBUFFERED: '1',
    OMP_NUM_THREADS: String(share),
  };
}

/** The command of a job: torchrun always, also for one process, so that the world size is always torchrun's. */
export function trainCommand(python: string, processes: number, jobFile: string): [string, ...string[]] {
  return [
    python,
    '-I',
    '-m',
    'torch.distributed.run',
    '--standalone',
    '--nproc_per_node',
    String(processes),
    scriptFile,
    jobFile,
  ];
}

function pythonIn(folder: string): string {
  return join(folder, 'venv', 'bin', 'python');
}

/**
 * Runs a tool to its end, or on abort ends it and all that it started. A tool that is not there gives code null. Output
 * goes to the log too, where there is one.
 */
async function runTool(
  command: readonly [string, ...string[]],
  log: string | null,
  signal?: AbortSignal,
): Promise<{ readonly code: number | null; readonly output: string }> {
  signal?.throwIfAborted();
  const [program, ...rest] = command;
  const file = log === null ? null : await open(log, 'a');
  const child = spawn(program, rest, { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  const end = (): void => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGTERM');
    } catch {
      // It ended in between.
    }
  };
  signal?.addEventListener('abort', end);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => {
      output = (output + text).slice(-1_000_000);
      // The log is a help, no more: on a full disk what counts is what the tool says of it.
      file?.write(text).catch(() => {});
    });
  }
  const code = await new Promise<number | null>((resolve) => {
    child.once('error', (error) => {
      output += error.message;
      resolve(null);
    });
    child.once('close', resolve);
  });
  signal?.removeEventListener('abort', end);
  await file?.close().catch(() => {});
  signal?.throwIfAborted();
  return { code, output };
}
