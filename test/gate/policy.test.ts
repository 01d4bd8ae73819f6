import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkPolicyMetrics, loadPolicy, parsePolicy } from '../../src/gate/index.ts';

const whole = `
version: 1
alpha: 0.05
cluster: cluster
primary: { metric: tickets/all_five, minEffect: 0.02 }
guards:
  critical:
    - { metric: tickets/escalation_recall, margin: 0.05, absolute: 0.9 }
  watch:
    - { metric: tickets/category }
missing: { max: 0.02 }
bootstrap: { resamples: 2000, seed: 7 }
`;

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cupel-policy-'));
});
afterAll(() => rm(folder, { recursive: true }));

describe('policy files', () => {
  it('are read as written', async () => {
    const file = join(folder, 'policy.yaml');
    await writeFile(file, whole);
    expect(await loadPolicy(file)).toEqual({
      version: 1,
      alpha: 0.05,
      cluster: 'cluster',
      primary: { metric: 'tickets/all_five', minEffect: 0.02 },
      guards: {
        critical: [{ metric: 'tickets/escalation_recall', margin: 0.05, absolute: 0.9 }],
        watch: [{ metric: 'tickets/category' }],
      },
      missing: { max: 0.02 },
      bootstrap: { resamples: 2000, seed: 7 },
    });
  });
  it('take defaults for what is left out', () => {
    expect(parsePolicy('version: 1\nprimary: { metric: a/b }', 'p.yaml')).toMatchObject({
      alpha: 0.05,
      cluster: 'cluster',
      primary: { minEffect: 0 },
      guards: { critical: [], watch: [] },
      missing: { max: 0.02 },
      bootstrap: { resamples: 2000, seed: 1 },
    });
  });

  const faults: [string, string, string, RegExp, RegExp?][] = [
    [
      'an unknown field with a near name',
      whole.replace('minEffect', 'minEfect'),
      'CUPEL_FIELD_UNKNOWN',
      /"minEfect"; did you mean "minEffect"/,
      /p\.yaml: primary/,
    ],
    [
      'an unknown field in a guard',
      whole.replace('margin:', 'magin:'),
      'CUPEL_FIELD_UNKNOWN',
      /did you mean "margin"/,
      /guards\.critical\.0/,
    ],
    [
      'alpha of 0.5',
      whole.replace('alpha: 0.05', 'alpha: 0.5'),
      'CUPEL_FIELD_INVALID',
      /alpha must be < 0\.5 \(is 0\.5\)/,
    ],
    ['alpha as text', whole.replace('alpha: 0.05', 'alpha: low'), 'CUPEL_FIELD_INVALID', /must be number/],
    ['a margin of 0', whole.replace('margin: 0.05', 'margin: 0'), 'CUPEL_FIELD_INVALID', /margin must be > 0/],
    ['a margin of NaN', whole.replace('margin: 0.05', 'margin: .nan'), 'CUPEL_FIELD_INVALID', /margin/],
    ['no primary', 'version: 1', 'CUPEL_FIELD_INVALID', /primary/],
    ['a metric without suite', whole.replace('tickets/category', 'category'), 'CUPEL_FIELD_INVALID', /pattern/],
    [
      'another version',
      whole.replace('version: 1', 'version: 2'),
      'CUPEL_FIELD_INVALID',
      /version must be equal to constant/,
    ],
    [
      'a metric in two rules',
      whole.replace('tickets/category', 'tickets/all_five'),
      'CUPEL_GATE_POLICY_REPEATS',
      /primary and in guards\.watch\.0/,
    ],
    [
      'too few resamples for the family',
      whole.replace('resamples: 2000', 'resamples: 200'),
      'CUPEL_GATE_RESAMPLES_FEW',
      /200 resamples and 3 metrics/,
    ],
    ['broken YAML', 'version: 1\nprimary: { metric: a/b', 'CUPEL_JSON_INVALID', /not valid YAML/, /p\.yaml:2/],
    ['a field twice', 'version: 1\nversion: 1\nprimary: { metric: a/b }', 'CUPEL_JSON_INVALID', /unique/, /p\.yaml:2/],
    ['an empty file', '', 'CUPEL_FIELD_INVALID', /must be object/],
    ['a list', '- 1', 'CUPEL_FIELD_INVALID', /must be object/],
  ];
  it.each(faults)('refuse %s', (_, text, code, message, where) => {
    expect(() => parsePolicy(text, 'p.yaml')).toThrowError(
      expect.objectContaining({
        code,
        exit: 2,
        message: expect.stringMatching(message) as string,
        where: expect.stringMatching(where ?? /p\.yaml/) as string,
      }),
    );
  });
  it('name the file that does not exist', async () => {
    await expect(loadPolicy(join(folder, 'nowhere.yaml'))).rejects.toMatchObject({ code: 'CUPEL_FILE_MISSING' });
  });
});

describe('metrics of a policy', () => {
  const suites = [
    {
      id: 'tickets',
      metrics: ['all_five', 'escalation_recall', 'category'].map((name) => ({
        name,
        title: name,
        direction: 'higher' as const,
        kind: 'rate' as const,
      })),
    },
  ];
  it('are known to the suites', () =>
    expect(() => checkPolicyMetrics(parsePolicy(whole, 'p.yaml'), suites, 'p.yaml')).not.toThrow());
  it('are named with the nearest known one where they are not', () => {
    const policy = parsePolicy(whole.replace('tickets/category', 'tickets/categories'), 'p.yaml');
    expect(() => checkPolicyMetrics(policy, suites, 'p.yaml')).toThrowError(
      expect.objectContaining({
        code: 'CUPEL_GATE_METRIC_UNKNOWN',
        where: 'p.yaml: guards.watch.0.metric',
        message: expect.stringContaining('did you mean "tickets/category"') as string,
      }),
    );
  });
});
