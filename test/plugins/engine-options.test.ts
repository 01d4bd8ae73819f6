import { expect, test } from 'vitest';
import { loadConfig } from '../../src/plugins/config.ts';
import { smallProject } from '../lib/project.ts';

test('a checkpoint is opened as the project says, unless it says otherwise itself', async () => {
  const project = smallProject({
    engine: { weights: 'q8_0', maxBatch: 4 },
    checkpoints: {
      plain: { path: 'a' },
      named: { path: 'a', engine: 'native' },
      own: {
        path: 'b.gguf',
        engine: { id: 'native', weights: 'as-stored', kvCache: 'f16' },
        adapter: 'adapters/polite',
      },
    },
  });
  const { engine, checkpoints } = await loadConfig(project.config);
  expect(engine).toEqual({ weights: 'q8_0', maxBatch: 4 });
  expect(checkpoints['plain']).toMatchObject({
    engine: null,
    options: { weights: 'q8_0', maxBatch: 4 },
    adapter: null,
  });
  expect(checkpoints['named']).toMatchObject({ engine: 'native', options: { weights: 'q8_0' } });
  expect(checkpoints['own']).toMatchObject({
    engine: 'native',
    options: { weights: 'as-stored', kvCache: 'f16', maxBatch: 4 },
    adapter: `${project.folder}/adapters/polite`,
  });
});

test.each([
  [{ engine: { weights: 'q2_k' } }],
  [{ engine: { kvCache: 'q4_0' } }],
  [{ engine: { threads: 2 } }],
  [{ checkpoints: { base: { path: 'a', engine: { maxBatch: 0 } } } }],
  [{ checkpoints: { base: { path: 'a', engine: 3 } } }],
])('%j is no way to open a checkpoint', async (change) => {
  await expect(loadConfig(smallProject(change).config)).rejects.toMatchObject({
    code: expect.stringMatching(/^CUPEL_FIELD_/),
  });
});
