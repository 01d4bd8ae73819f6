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
  {
    fault: 'a new checkpoint name that leads out of the store',
    plant: (p) => void p.write('victim/keep.txt', 'mine'),
    command: (p) => [
      'train',
      '--checkpoint',
      '../../victim',
      '--trainer',
      'keyword-rules',
      '--data',
      'tickets',
      '-c',
      p.config,
    ],
    code: 'CUPEL_ID_INVALID',
    place: /"\.\.\/\.\.\/victim"/,
  },
  {
    fault: 'a new checkpoint with the name of a configured one',
    plant: () => {},
    command: (p) => [
      'train',
      '--checkpoint',
      'base',
      '--trainer',
      'keyword-rules',
      '--data',
      'tickets',
      '-c',
      p.config,
    ],
    code: 'CUPEL_ID_INVALID',
    place: /"base" is already/,
  },
  {
    fault: 'a configured checkpoint whose folder is gone',
    plant: (p) => p.configure({ checkpoints: { base: { path: 'nowhere' } } }),
    command: (p) => ['gate', 'base', '-c', p.config],
    code: 'CUPEL_FILE_MISSING',
    place: /nowhere/,
  },
  {
    fault: 'a damaged state file',
    plant: (p) => void p.write('.cupel/pipeline.json', '{"version": 1,'),
    command: (p) => ['resume', '--store', join(p.folder, '.cupel')],
    code: 'CUPEL_JSON_INVALID',
    place: /pipeline\.json/,
  },
  {
    fault: 'a policy metric that no suite has, found before anything is computed',
    plant: (p) => void p.write('policy.yaml', 'version: 1\nprimary: { metric: triage/all_fiv }\n'),
    command: (p) => ['pipeline', '-c', p.config],
    code: 'CUPEL_GATE_METRIC_UNKNOWN',
    place: /did you mean "triage\/all_five"/,
  },
  {
    fault: 'a contrast metric that no suite has',
    plant: (p) => p.configure({ validityMetric: 'triage/valid_jsn' }),
    command: (p) => ['pipeline', '-c', p.config],
    code: 'CUPEL_METRIC_UNKNOWN',
    place: /did you mean "triage\/valid_json"/,
  },
  {
    fault: 'a run of no suite',
    plant: () => {},
    command: (p) => ['run', '--checkpoint', 'base', '-c', p.config],
    code: 'CUPEL_CLI_USAGE',
    place: /at least one suite/,
  },
  {
    fault: 'half a thread',
    plant: () => {},
    command: (p) => [...run(p), '-j', '0.5'],
    code: 'CUPEL_CLI_USAGE',
    place: /--threads/,
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

test(
  'the gate takes only runs over the cases as they now stand, and no verdict that was edited',
  { timeout: 120_000 },
  () => {
    // No pipeline: the steps as single commands, on a suite of the user's own.
    const project = smallProject({ pipeline: [] });
    const given = ['-c', project.config];
    const cases = join(project.folder, 'triage/cases/validation.jsonl');
    const good = readFileSync(cases, 'utf8');
    const make = (id: string, trainer: string): void => {
      expect(cupel(['train', '--checkpoint', id, '--trainer', trainer, '--data', 'tickets', ...given]).status).toBe(0);
      expect(cupel(['run', './triage', '--checkpoint', id, ...given]).status).toBe(0);
    };
    make('rules', 'keyword-rules');
    make('tfidf', 'tfidf-logistic');
    expect(cupel(['adopt', 'rules', ...given]).status).toBe(0);
    expect(cupel(['gate', 'tfidf', ...given]).stderr).not.toContain('CUPEL_');

    // A corrected label: the old run no longer counts for the candidate.
    writeFileSync(cases, good.replace('"urgency":"low"', '"urgency":"high"'));
    expect(cupel(['gate', 'tfidf', ...given]).stderr).toContain('CUPEL_GATE_NO_RUNS');
    expect(cupel(['run', './triage', '--checkpoint', 'tfidf', ...given, '-n', '12']).status).toBe(0);
    expect(cupel(['gate', 'tfidf', ...given]).stderr).toContain('CUPEL_GATE_NO_RUNS');
    writeFileSync(cases, good);

    const verdict = join(project.folder, '.cupel/verdicts/tfidf.json');
    const kind = cupel(['gate', 'tfidf', ...given, '--json']).stdout;
    expect(JSON.parse(kind)).not.toMatchObject({ kind: 'PROMOTE' });
    writeFileSync(verdict, readFileSync(verdict, 'utf8').replace(/"kind":"[A-Z]+"/, '"kind":"PROMOTE"'));
    const promoted = cupel(['promote', 'tfidf', ...given]);
    expect(promoted.stderr).toContain('CUPEL_PROMOTE_STALE');
    expect(promoted.status).toBe(4);
  },
);

test('a finished checkpoint stays when training it again is stopped or fails', { timeout: 60_000 }, () => {
  const project = smallProject();
  const given = ['--trainer', 'sft', '--base', 'base', '--data', 'tickets', '-c', project.config];
  expect(cupel(['train', '--checkpoint', 's', ...given, '--set', 'epochs=1']).status).toBe(0);
  const before = readFileSync(join(project.folder, '.cupel/candidates/s/model.safetensors'));
  expect(cupel(['train', '--checkpoint', 's', ...given, '--set', 'learningRate=1e30']).status).not.toBe(0);
  expect(readFileSync(join(project.folder, '.cupel/candidates/s/model.safetensors')).equals(before)).toBe(true);
  // From itself: its own parent would be gone.
  const again = ['--trainer', 'sft', '--base', 's', '--data', 'tickets', '-c', project.config, '--set', 'epochs=1'];
  expect(cupel(['train', '--checkpoint', 's', ...again])).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('CUPEL_ID_INVALID') as string,
  });
  expect(cupel(['run', './triage', '--checkpoint', 's', '-c', project.config, '-n', '2']).status).toBe(0);
});

test('a checkpoint trained on answers mined from the gated cases is no evidence', { timeout: 120_000 }, () => {
  const project = smallProject({ pipeline: [] });
  const given = ['-c', project.config];
  const ok = (...args: string[]): void => {
    const { status, stderr } = cupel([...args, ...given]);
    expect({ args, status, stderr: status === 0 ? '' : stderr }).toEqual({ args, status: 0, stderr: '' });
  };
  ok('train', '--checkpoint', 'rules', '--trainer', 'keyword-rules', '--data', 'tickets');
  ok('run', './triage', '--checkpoint', 'rules');
  ok('adopt', 'rules');
  ok('mine', './triage', '--checkpoint', 'rules', '--dataset', 'pairs', '--limit', '20', '--ignore', 'summary');
  ok('train', '--checkpoint', 'c', '--trainer', 'sft', '--base', 'base', '--data', 'pairs', '--set', 'epochs=1');
  ok('run', './triage', '--checkpoint', 'c');
  const { status, stdout } = cupel(['gate', 'c', ...given]);
  expect(stdout).toContain('which was mined from suite triage, split validation');
  expect(status).toBe(4);
});
