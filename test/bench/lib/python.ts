// Installs a Python peer in an ignored folder: a virtual environment with exactly pinned packages.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** @returns the interpreter. @throws if the environment cannot be made. */
export function pythonWith(folder: string, packages: Readonly<Record<string, string>>): string {
  const pins = Object.entries(packages).map(([name, version]) => `${name}==${version}`);
  const interpreter = join(folder, 'bin', 'python');
  const marker = join(folder, 'pins.json');
  if (existsSync(marker) && readFileSync(marker, 'utf8') === JSON.stringify(pins)) return interpreter;
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(dirname(folder), { recursive: true });
  run('python3', ['-m', 'venv', folder]);
  run(interpreter, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', ...pins]);
  writeFileSync(`${marker}.partial`, JSON.stringify(pins));
  renameSync(`${marker}.partial`, marker);
  return interpreter;
}

function run(program: string, given: readonly string[]): void {
  const { status, stderr, error } = spawnSync(program, given, { encoding: 'utf8' });
  if (status !== 0)
    throw new Error(`${program} ${given.slice(0, 3).join(' ')}: ${error?.message ?? stderr.slice(-600)}`);
}
