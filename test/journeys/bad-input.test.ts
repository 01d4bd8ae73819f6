import { chmodSync, cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { decodeSafetensors, encodeSafetensors } from '../../src/kit/index.ts';
import { cupel } from '../lib/cli.ts';
import { basePath, smallProject, type SmallProject } from '../lib/project.ts';

/** One planted fault each: what is done to the project, the command, and the one message that must come. */
interface Fault {
  readonly fault: string;
  readonly plant: (project: SmallProject) => void;
  readonly command: (project: SmallProject) => readonly string[];
  readonly code: string;
  /** Must stand in the message: the place. */
  readonly place: RegExp;
  readonly exit?: number;
}

const run = (project: SmallProject): readonly string[] => [
  'run',
  './triage',
  '--checkpoint',
  'base',
  '-c',
  project.config,
  '-n',
  '2',
];
const train = (project: SmallProject): readonly string[] => [
  'train',
  '--checkpoint',
  'x',
  '--trainer',
  'sft',
  '--base',
  'base',
  '--data',
  'tickets',
  '-c',
  project.config,
];

function lines(project: SmallProject, path: string, change: (all: string[]) => void): void {
  const file = join(project.folder, path);
  const all = readFileSync(file, 'utf8').trim().split('\n');
  change(all);
  writeFileSync(file, `${all.join('\n')}\n`);
}

function brokenBase(project: SmallProject, change: (folder: string) => void): void {
  const folder = join(project.folder, 'base');
  mkdirSync(folder);
  for (const name of [
    'config.json',
    'model.safetensors',
    'tokenizer.json',
    'tokenizer_config.json',
    'chat_template.jinja',
    'generation_config.json',
  ]) {
    cpSync(join(basePath, name), join(folder, name));
  }
  change(folder);
  project.configure({ checkpoints: { base: { path: 'base' } } });
}

const faults: readonly Fault[] = [
  {
    fault: 'a config that is not there',
    plant: () => {},
    command: () => ['gate', 'x', '-c', '/nowhere/cupel.config.yaml'],
    code: 'CUPEL_FILE_MISSING',
    place: /\/nowhere\/cupel\.config\.yaml/,
  },
  {
    fault: 'a config of the wrong type',
    plant: (p) => p.configure({ threads: 'two' }),
    command: run,
    code: 'CUPEL_FIELD_INVALID',
    place: /cupel\.config\.yaml: threads/,
  },
  {
    fault: 'an unknown field with a near name in the config',
    plant: (p) => p.configure({ thread: 2 }),
    command: run,
    code: 'CUPEL_FIELD_UNKNOWN',
    place: /did you mean "threads"/,
  },
  {
    fault: 'a config that is no YAML',
    plant: (p) => void p.write('cupel.config.yaml', 'project: "x\nstore: [\n'),
    command: run,
    code: 'CUPEL_JSON_INVALID',
    place: /cupel\.config\.yaml:\d/,
  },
  {
    fault: 'an unknown suite',
    plant: () => {},
    command: (p) => ['run', './triagge', '--checkpoint', 'base', '-c', p.config],
    code: 'CUPEL_FILE_MISSING',
    place: /triagge\/suite\.yaml/,
  },
  {
    fault: 'bad JSON on line 17 of a case file',
    plant: (p) => lines(p, 'triage/cases/validation.jsonl', (all) => (all[16] = '{"id": "x",')),
    command: run,
    code: 'CUPEL_JSONL_INVALID',
    place: /validation\.jsonl:17/,
  },
  {
    fault: 'a case id given twice',
    plant: (p) => lines(p, 'triage/cases/validation.jsonl', (all) => (all[9] = all[3] ?? '')),
    command: run,
    code: 'CUPEL_SUITE_DUPLICATE',
    place: /validation\.jsonl:10/,
  },
  {
    fault: 'an unknown validator in a suite',
    plant: (p) =>
      lines(
        p,
        'triage/suite.yaml',
        (all) => (all[all.findIndex((line) => line.includes('use: json-valid'))] = '  - use: json-vallid'),
      ),
    command: run,
    code: 'CUPEL_PLUGIN_UNKNOWN',
    place: /did you mean "json-valid"/,
  },
  {
    fault: 'bad JSON on line 17 of the training data',
    plant: (p) => lines(p, 'tickets.jsonl', (all) => (all[16] = '{"id": ')),
    command: train,
    code: 'CUPEL_JSONL_INVALID',
    place: /tickets\.jsonl:17/,
  },
  {
    fault: 'a training row id given twice',
    plant: (p) => lines(p, 'tickets.jsonl', (all) => (all[5] = all[4] ?? '')),
    command: train,
    code: 'CUPEL_DATA_',
    place: /tickets\.jsonl:6/,
  },
  {
    fault: 'a checkpoint that nobody knows',
    plant: () => {},
    command: (p) => ['run', './triage', '--checkpoint', 'bas', '-c', p.config],
    code: 'CUPEL_CHECKPOINT_UNKNOWN',
    place: /did you mean "base"/,
  },
  {
    fault: 'a truncated safetensors file',
    plant: (p) =>
      brokenBase(p, (folder) =>
        writeFileSync(
          join(folder, 'model.safetensors'),
          readFileSync(join(folder, 'model.safetensors')).subarray(0, 50_000),
        ),
      ),
    command: run,
    code: 'CUPEL_NATIVE_SAFETENSORS_',
    place: /model\.safetensors/,
  },
  {
    fault: 'a NaN weight',
    plant: (p) =>
      brokenBase(p, (folder) => {
        const file = join(folder, 'model.safetensors');
        const { tensors } = decodeSafetensors(readFileSync(file), file);
        const all = [...tensors.values()];
        const [first] = all;
        if (first) first.data[7] = Number.NaN;
        writeFileSync(file, encodeSafetensors(all));
      }),
    command: run,
    code: 'CUPEL_NATIVE_TENSOR_NONFINITE',
    place: /model\.safetensors/,
  },
  {
    fault: 'an absurd model config',
    plant: (p) =>
      brokenBase(p, (folder) =>
        writeFileSync(
          join(folder, 'config.json'),
          readFileSync(join(folder, 'config.json'), 'utf8').replace(
            /"num_hidden_layers": \d+/,
            '"num_hidden_layers": -4',
          ),
        ),
      ),
    command: run,
    code: 'CUPEL_NATIVE_CONFIG_INVALID',
    place: /config\.json/,
  },
  {
    fault: 'a policy with an unknown field',
    plant: (p) => {
      cupel(['run', './triage', '--checkpoint', 'base', '-c', p.config]);
      p.write('policy.yaml', 'version: 1\nprimary: { metric: triage/all_five, minEfect: 0 }\n');
    },
    command: (p) => ['gate', 'base', '-c', p.config],
    code: 'CUPEL_FIELD_UNKNOWN',
    place: /did you mean "minEffect"/,
  },
  {
    fault: 'a gate without any run',
    plant: () => {},
    command: (p) => ['gate', 'base', '-c', p.config],
    code: 'CUPEL_GATE_NO_RUNS',
    place: /cupel run/,
    exit: 4,
  },
  {
    fault: 'an unknown trainer parameter',
    plant: () => {},
    command: (p) => [...train(p), '--set', 'epoch=2'],
    code: 'CUPEL_FIELD_UNKNOWN',
    place: /did you mean "epochs"/,
  },
  {
    fault: 'verify before anything was promoted',
    plant: () => {},
    command: (p) => ['verify', '-c', p.config],
    code: 'CUPEL_NOTHING_PROMOTED',
    place: /mend: Promote/,
    exit: 4,
  },
  {
    fault: 'plugins of a folder that is not trusted',
    plant: (p) => p.configure({ plugins: [p.write('mine.ts', 'export default {}')] }),
    command: run,
    code: 'CUPEL_PLUGIN_UNTRUSTED',
    place: /--trust/,
  },
];

test.each(faults)(
  '$fault: one coded message with place and remedy',
  { timeout: 60_000 },
  ({ plant, command, code, place, exit }) => {
    const project = smallProject();
    plant(project);
    const { status, stdout, stderr } = cupel(command(project));
    expect(stderr).toContain(code);
    expect(stderr).toMatch(place);
    expect(stderr.match(/mend: /g)).toHaveLength(1);
    expect(stderr).not.toContain('internal error');
    expect(stdout).toBe('');
    expect(status).toBe(exit ?? 2);
  },
);

test('an unreadable path is one coded message', () => {
  const project = smallProject();
  // A folder where a file is expected cannot be read by anybody, root included.
  project.configure({ policy: '.', datasets: { tickets: '.' } });
  chmodSync(project.folder, 0o755);
  const { status, stderr } = cupel(train(project));
  expect(stderr).toContain('CUPEL_FILE_UNREADABLE');
  expect(status).toBe(2);
});

test(
  'bad input never costs finished rows: a case file broken later leaves the finished run whole',
  { timeout: 60_000 },
  () => {
    const project = smallProject();
    expect(cupel(['run', './triage', '--checkpoint', 'base', '-c', project.config]).status).toBe(0);
    const before = cupel(['run', './triage', '--checkpoint', 'base', '-c', project.config, '--json']).stdout;
    const file = join(project.folder, 'triage/cases/validation.jsonl');
    const good = readFileSync(file, 'utf8');
    writeFileSync(file, good.replace('{', '{{'));
    expect(cupel(['run', './triage', '--checkpoint', 'base', '-c', project.config]).status).toBe(2);
    writeFileSync(file, good);
    expect(cupel(['run', './triage', '--checkpoint', 'base', '-c', project.config, '--json']).stdout).toBe(before);
  },
);
