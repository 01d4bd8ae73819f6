import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import { takeClaim } from '../../../src/kit/index.ts';
import { environmentFolder, findEnvironment, makeEnvironment, pins } from '../../../trainers/trl/environment.ts';

const path = process.env['PATH'];
afterEach(() => {
  process.env['PATH'] = path;
});

/**
 * A folder for environments, and an interpreter that makes a `venv` as python does, with a `pip` that installs nothing.
 * @param pip what its pip does, as shell
 */
async function place(pip = 'exit 0'): Promise<{ environments: string; python: string; calls: () => string }> {
  const folder = mkdtempSync(join(tmpdir(), 'cupel-trl-environment-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const python = join(folder, 'python3');
  const calls = join(folder, 'calls');
  const answer = JSON.stringify({ python: '3.11.7', installed: await pins() });
  const script = [
    '#!/bin/sh',
    `echo "$@" >> ${calls}`,
    'case "$*" in',
    `  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;`,
    '  "-m pip --version") test -e "$(dirname "$0")/pip-is-gone" && exit 1; exit 0 ;;',
    `  "-m pip install"*) touch "$(dirname "$0")/../../installed"; ${pip} ;;`,
    `  *) test -e "$(dirname "$0")/../../installed" || exit 1; echo 'a greeting'; echo '${answer}' ;;`,
    'esac',
    '',
  ].join('\n');
  writeFileSync(python, script);
  chmodSync(python, 0o755);
  // Without uv, which would go its own way.
  process.env['PATH'] = ['/usr/bin', '/bin'].join(delimiter);
  return { environments: join(folder, 'environments'), python, calls: () => readFileSync(calls, 'utf8') };
}

const note = (): void => {};

describe('making the environment', () => {
  it('makes it by venv and pip, records what is installed, and makes it once', async () => {
    const { environments, python, calls } = await place();
    expect(await findEnvironment(environments)).toBeNull();
    const made = await makeEnvironment(environments, { python, note });
    expect(made.pythonVersion).toBe('3.11.7');
    expect(existsSync(join(made.folder, 'environment.json'))).toBe(true);
    const before = calls().match(/-m venv/g)?.length;
    expect(await makeEnvironment(environments, { python, note })).toEqual(made);
    expect(calls().match(/-m venv/g)?.length).toBe(before);
  });

  it('makes an interpreter anew that an interrupted attempt left without pip', async () => {
    const { environments, python, calls } = await place();
    const folder = join(await environmentFolder(environments), 'venv', 'bin');
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'python'), readFileSync(python));
    chmodSync(join(folder, 'python'), 0o755);
    writeFileSync(join(folder, 'pip-is-gone'), '');
    await makeEnvironment(environments, { python, note });
    expect(calls()).toContain('-m venv');
    expect(existsSync(join(folder, 'pip-is-gone'))).toBe(false);
  });

  it('names an interpreter that is not there', async () => {
    const { environments } = await place();
    await expect(makeEnvironment(environments, { python: '/nowhere/python3', note })).rejects.toMatchObject({
      code: 'CUPEL_TRL_SETUP',
      message: expect.stringMatching(/\/nowhere\/python3 -m venv .* could not be run: .*ENOENT/) as string,
    });
  });

  it('shows what pip said last, and goes on when it is run again', async () => {
    const { environments, python } = await place('echo "No space left on device"; exit 1');
    await expect(makeEnvironment(environments, { python, note })).rejects.toMatchObject({
      code: 'CUPEL_TRL_SETUP',
      message: expect.stringContaining('ended with 1: No space left on device') as string,
    });
  });

  it('is made by one process at a time', async () => {
    const { environments, python } = await place();
    const folder = await environmentFolder(environments);
    mkdirSync(folder, { recursive: true });
    const claim = await takeClaim(join(folder, 'setup'));
    if ('taken' in claim) throw new Error('the claim was not given');
    await expect(makeEnvironment(environments, { python, note })).rejects.toMatchObject({ code: 'CUPEL_TRL_IN_USE' });
    await claim.release();
    await makeEnvironment(environments, { python, note });
  });

  it('gives a folder that can not be written a code', async () => {
    const { environments, python } = await place();
    writeFileSync(environments, '');
    await expect(makeEnvironment(environments, { python, note })).rejects.toMatchObject({ code: 'CUPEL_TRL_SETUP' });
  });

  it('stops on abort, with what it had started', async () => {
    const { environments, python } = await place('sleep 30');
    const controller = new AbortController();
    const running = makeEnvironment(environments, {
      python,
      note: (line) => {
        if (line.includes('pip install')) setTimeout(() => controller.abort(new Error('enough')), 100);
      },
      signal: controller.signal,
    });
    await expect(running).rejects.toThrow('enough');
  });
});
