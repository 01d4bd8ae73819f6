import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

export const root = join(import.meta.dirname, '..', '..');

export interface CliResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the command line from source, as a user would. */
export function cupel(
  args: readonly string[],
  options: { readonly cwd?: string; readonly timeout?: number } = {},
): CliResult {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--import', join(root, 'node_modules/tsx/dist/esm/index.mjs'), join(root, 'src/cli/main.ts'), ...args],
    {
      cwd: options.cwd ?? root,
      encoding: 'utf8',
      timeout: options.timeout ?? 60_000,
      env: { ...process.env, NO_COLOR: '1' },
    },
  );
  return { status, stdout, stderr };
}
