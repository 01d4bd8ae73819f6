import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadConfig, suiteFolder } from '../../src/plugins/config.ts';
import { root } from '../lib/cli.ts';
import { smallProject } from '../lib/project.ts';

test('paths in a config start at the config, and defaults are filled in', async () => {
  const project = smallProject({ store: undefined, threads: undefined });
  const config = await loadConfig(project.config);
  expect(config).toMatchObject({
    store: join(project.folder, '.cupel'),
    policy: join(project.folder, 'policy.yaml'),
    channel: 'main',
    threads: 2,
    datasets: { tickets: join(project.folder, 'tickets.jsonl') },
  });
  expect(suiteFolder('./triage', config)).toBe(join(project.folder, 'triage'));
  expect(suiteFolder('tickets', config)).toBe(join(root, 'suites', 'tickets'));
});

test('the command line overrides store, split and threads', async () => {
  const project = smallProject();
  expect(await loadConfig(project.config, { split: 'test', threads: 1, store: '/tmp/elsewhere' })).toMatchObject({
    split: 'test',
    threads: 1,
    store: '/tmp/elsewhere',
  });
});

test('the demo’s config holds, its shares fit into the budget, and every step has a name of its own', async () => {
  const config = await loadConfig(join(root, 'fixtures/demo/cupel.config.yaml'));
  expect(config.budgetSeconds).toBe(240);
  expect(config.pipeline.reduce((sum, { share }) => sum + share, 0)).toBeLessThanOrEqual(1);
  expect(new Set(config.pipeline.map(({ name }) => name)).size).toBe(config.pipeline.length);
});

test('a step with an unknown job is named with the near one', async () => {
  const project = smallProject({ pipeline: [{ name: 'x', evalute: { checkpoint: 'base', suites: ['tickets'] } }] });
  await expect(loadConfig(project.config)).rejects.toMatchObject({
    code: 'CUPEL_FIELD_UNKNOWN',
    message: 'unknown field "evalute"; did you mean "evaluate"?',
  });
});
