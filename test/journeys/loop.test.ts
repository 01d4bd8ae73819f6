import { spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { sha256 } from '../../src/kit/index.ts';
import { cupel, root } from '../lib/cli.ts';
import { smallProject, type SmallProject } from '../lib/project.ts';

interface Printed {
  readonly steps: readonly { readonly name: string; readonly verdict: string | null }[];
  readonly checkpoints: readonly {
    readonly id: string;
    readonly metrics: Readonly<Record<string, { readonly value: number | null }>>;
  }[];
  readonly scorecards: readonly string[];
}

function pipeline(project: SmallProject, ...more: string[]): Printed {
  const { status, stdout, stderr } = cupel(['pipeline', '-c', project.config, '--json', ...more], { timeout: 120_000 });
  expect({ status, stderr: status === 0 ? '' : stderr }).toEqual({ status: 0, stderr: '' });
  return JSON.parse(stdout) as Printed;
}

/** What must be equal between two runs of the same project, wherever they were made. */
function facts(project: SmallProject, printed: Printed): unknown {
  return {
    metrics: printed.checkpoints,
    verdict: readFileSync(join(project.folder, '.cupel/verdicts/sft.json'), 'utf8'),
    weights: sha256(readFileSync(join(project.folder, '.cupel/candidates/sft/model.safetensors'))),
  };
}

test(
  'the loop makes, gates and reports a candidate; threads and a second run change no digit',
  { timeout: 240_000 },
  () => {
    const first = smallProject();
    const printed = pipeline(first);
    expect(printed.steps.map(({ name }) => name)).toEqual([
      'evaluate base',
      'adopt base',
      'train sft',
      'evaluate sft',
      'gate sft',
      'promote sft',
      'report',
    ]);
    for (const path of printed.scorecards) expect(readFileSync(path, 'utf8')).toContain('<!doctype html>');
    expect(printed.scorecards).toHaveLength(2);

    const second = smallProject();
    expect(facts(second, pipeline(second, '--threads', '1'))).toEqual(facts(first, printed));
  },
);

test(
  'kill -9 between and within steps: resume goes on and ends with the same figures',
  { timeout: 240_000 },
  async () => {
    const whole = smallProject();
    const wanted = facts(whole, pipeline(whole));

    const killed = smallProject();
    for (const stopAfter of ['adopt base', 'train sft']) {
      await killWhen(killed, stopAfter);
      expect(existsSync(join(killed.folder, '.cupel/pipeline.json'))).toBe(true);
    }
    const { status, stdout, stderr } = cupel(['resume', '--store', join(killed.folder, '.cupel'), '--json'], {
      timeout: 120_000,
    });
    expect({ status, stderr: status === 0 ? '' : stderr }).toEqual({ status: 0, stderr: '' });
    expect(facts(killed, JSON.parse(stdout) as Printed)).toEqual(wanted);
    expect(cupel(['resume', '--store', join(killed.folder, '.cupel')]).stderr).toContain('CUPEL_RESUME_NOTHING');
  },
);

test(
  'a finished pipeline that is run again keeps every verdict and figure, also after promotion',
  { timeout: 240_000 },
  async () => {
    const project = smallProject();
    const first = pipeline(project);
    expect(first.steps.find(({ name }) => name === 'gate sft')?.verdict).toBe('PROMOTE');
    const before = facts(project, first);
    const again = cupel(['pipeline', '-c', project.config, '--json'], { timeout: 120_000 });
    expect(again.status).toBe(0);
    // Only reports are made anew: everything else is as it was.
    for (const { name } of first.steps.filter(({ name: step }) => step !== 'report')) {
      expect(again.stderr).toMatch(new RegExp(`${name}(: [A-Z]+)?  \\(kept\\)`));
    }
    expect(facts(project, JSON.parse(again.stdout) as Printed)).toEqual(before);

    // Adopting is done once: it neither fails nor takes a promotion back.
    expect(cupel(['adopt', 'base', '-c', project.config]).stdout).toContain('current is sft');
    // Killed after the promotion, too.
    const killed = smallProject();
    await killWhen(killed, 'promote sft');
    const resumed = cupel(['resume', '--store', join(killed.folder, '.cupel'), '--json'], { timeout: 120_000 });
    expect({ status: resumed.status, stderr: resumed.status === 0 ? '' : resumed.stderr }).toEqual({
      status: 0,
      stderr: '',
    });
    expect(facts(killed, JSON.parse(resumed.stdout) as Printed)).toEqual(before);
  },
);

test('Ctrl-C ends with 130, says how to go on, and keeps what is finished', { timeout: 240_000 }, async () => {
  const project = smallProject();
  const { code, text } = await interruptWhen(project, 'adopt base');
  expect(code).toBe(130);
  expect(text).toMatch(/CUPEL_\w*INTERRUPTED/);
  const { status, stderr } = cupel(['resume', '--store', join(project.folder, '.cupel')], { timeout: 120_000 });
  expect(status).toBe(0);
  expect(stderr).toContain('adopt base  (kept)');
});

test('a promoted checkpoint verifies; one changed byte is found; rollback goes back', { timeout: 240_000 }, () => {
  const project = smallProject();
  const printed = pipeline(project);
  expect(printed.steps.find(({ name }) => name === 'gate sft')?.verdict).toBe('PROMOTE');
  const given = ['-c', project.config];
  const verified = cupel(['verify', ...given, '--json']);
  expect(JSON.parse(verified.stdout)).toMatchObject({ ok: true, checkpoint: 'sft' });
  expect(verified.status).toBe(0);
  const [adopted, promoted] = JSON.parse(cupel(['history', ...given, '--json']).stdout) as {
    readonly checkpoint: { readonly id: string; readonly path: string };
  }[];
  expect([adopted?.checkpoint.id, promoted?.checkpoint.id]).toEqual(['base', 'sft']);
  const [difference] = JSON.parse(cupel(['compare', 'base', 'sft', ...given, '--json']).stdout) as { n: number }[];
  expect(difference?.n).toBe(40);
  // What is current is what a later candidate is compared with: the same weights are no improvement.
  expect(cupel(['gate', 'sft', ...given]).status).not.toBe(0);

  const weights = join(project.folder, '.cupel', promoted?.checkpoint.path ?? '', 'model.safetensors');
  const bytes = readFileSync(weights);
  bytes[bytes.length - 7] = (bytes.at(-7) ?? 0) ^ 1;
  writeFileSync(weights, bytes);
  const { status, stdout } = cupel(['verify', ...given]);
  expect(status).toBe(4);
  expect(stdout).toContain('FAILED  checkpoint files');
  bytes[bytes.length - 7] = (bytes.at(-7) ?? 0) ^ 1;
  writeFileSync(weights, bytes);
  expect(cupel(['rollback', ...given]).stdout).toContain('current is base');
});

function start(project: SmallProject) {
  return spawn(
    process.execPath,
    [
      '--import',
      join(root, 'node_modules/tsx/dist/esm/index.mjs'),
      join(root, 'src/cli/main.ts'),
      'pipeline',
      '-c',
      project.config,
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
}

/** Starts the pipeline and kills it with -9 shortly after a step has ended. */
async function killWhen(project: SmallProject, step: string): Promise<void> {
  const child = start(project);
  await new Promise<void>((resolve) => {
    let text = '';
    child.stderr.on('data', (part: Buffer) => {
      text += part.toString();
      if (text.includes(`${step}  (`)) setTimeout(() => child.kill('SIGKILL'), 150);
    });
    child.on('exit', () => resolve());
  });
}

async function interruptWhen(project: SmallProject, step: string): Promise<{ code: number | null; text: string }> {
  const child = start(project);
  return new Promise((resolve) => {
    let text = '';
    let sent = false;
    child.stderr.on('data', (part: Buffer) => {
      text += part.toString();
      if (!sent && text.includes(`${step}  (`)) {
        sent = true;
        child.kill('SIGINT');
      }
    });
    child.on('exit', (code) => resolve({ code, text }));
  });
}
