import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseArguments } from '../../src/cli/arguments.ts';
import { commands } from '../../src/cli/commands.ts';
import { duration, openProgress } from '../../src/cli/progress.ts';
import { cupel, root } from '../lib/cli.ts';

test('help lists every command and the exit codes', () => {
  const { status, stdout } = cupel(['--help']);
  expect(status).toBe(0);
  for (const { name } of commands) expect(stdout).toContain(`  ${name}`);
  expect(stdout).toContain('exit codes: 0 promoted or completed · 1 rejected · 2 usage');
});

test('every command has a summary, examples that start with its name, and help for each flag', () => {
  for (const command of commands) {
    expect(command.examples.length, command.name).toBeGreaterThan(0);
    for (const example of command.examples) expect(example.startsWith(`cupel ${command.name}`), example).toBe(true);
    for (const [flag, { help }] of Object.entries(command.flags))
      expect(help, `${command.name} --${flag}`).not.toBe('');
  }
});

test('every command that the README shows is one, with flags that it takes', () => {
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  const lines = [...readme.matchAll(/^cupel (?!-)(\S+)(.*)$/gm)];
  expect(lines.length).toBeGreaterThan(5);
  for (const [line, name, rest] of lines) {
    const command = commands.find((one) => one.name === name);
    expect(command, line).toBeDefined();
    parseArguments((rest ?? '').trim().split(/\s+/).filter(Boolean), command?.flags ?? {});
  }
});

test('an unknown command ends with 2 and names the near one', () => {
  const { status, stderr, stdout } = cupel(['gat']);
  expect(status).toBe(2);
  expect(stdout).toBe('');
  expect(stderr).toBe(
    'CUPEL_CLI_USAGE: no command is named "gat"; did you mean "gate"?\n  mend: Run `cupel --help`, or `cupel <command> --help`.\n',
  );
});

test('an unknown flag ends with 2 and names the near one', () => {
  const { status, stderr } = cupel(['run', '--chekpoint', 'x']);
  expect(status).toBe(2);
  expect(stderr).toContain('unknown flag --chekpoint; did you mean --checkpoint?');
});

test('with --json an error is one JSON object on stdout too', () => {
  const { status, stdout } = cupel([
    'run',
    'tickets',
    '--checkpoint',
    'x',
    '--json',
    '-c',
    '/nowhere/cupel.config.yaml',
  ]);
  expect(status).toBe(2);
  expect(JSON.parse(stdout)).toMatchObject({
    error: { code: 'CUPEL_FILE_MISSING', where: '/nowhere/cupel.config.yaml' },
  });
});

test('numbers are checked', () => {
  const given = parseArguments(['--limit', 'ten'], { limit: { value: 'n', help: 'x' } });
  expect(() => given.number('limit')).toThrowError('--limit wants a number, got "ten"');
});

test('live progress shows count, rate and time left; piped progress shows notes only', () => {
  let time = 0;
  let text = '';
  const stream = { write: (part: string) => (text += part), columns: 120 };
  const live = openProgress(stream, 'live', () => time).begin('tickets', 100, 'cases');
  time = 2000;
  live.advance(50);
  expect(text).toContain('50/100 cases · 25/s · 2s left');
  live.end('done');
  text = '';
  // What was made before, by a run that is resumed, is no measure of speed.
  const resumed = openProgress(stream, 'live', () => time).begin('tickets', 100, 'cases', 80);
  time = 4000;
  resumed.advance(10);
  expect(text).toContain('90/100 cases · 5.0/s · 2s left');
  text = '';
  const piped = openProgress(stream, 'notes', () => time);
  const task = piped.begin('tickets', 100, 'cases');
  task.advance(50);
  task.end('done');
  expect(text).toBe('');
  piped.note('1/2 step');
  expect(text).toBe('1/2 step\n');
});

test('durations read well', () => {
  expect([0.4, 75, 3700].map(duration)).toEqual(['0s', '1m 15s', '1h 1m']);
});
