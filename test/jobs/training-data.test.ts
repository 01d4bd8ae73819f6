import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { TrainEvent, TrainingRow } from '../../src/contracts/index.ts';
import type { Project } from '../../src/jobs/project.ts';
import { readRows, reviewTrainingData } from '../../src/jobs/training-data.ts';
import { packageRoot } from '../../src/kit/index.ts';
import { loadSuite } from '../../src/plugins/suites.ts';
import { renderMessages } from '../../src/run/index.ts';

const root = packageRoot();
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cupel-data-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** As much of a project as datasets need. */
const projectOf = (policy: string | null): Project =>
  ({
    config: { file: join(folder, 'cupel.config.yaml'), policy, datasets: {} },
    at: (...parts: string[]) => join(folder, ...parts),
  }) as unknown as Project;
const policy = join(root, 'fixtures/demo/policy.yaml');

async function asked(split: 'validation' | 'test'): Promise<string> {
  const suite = await loadSuite(join(root, 'suites/tickets'), { splits: [split] });
  const [first] = suite.splits[split] ?? [];
  if (first === undefined) throw new Error('a case');
  return renderMessages(suite.prompt, first, { fewShot: false }).findLast(({ role }) => role === 'user')?.content ?? '';
}
const row = (content: string): TrainingRow => ({
  id: 'r1',
  kind: 'messages',
  messages: [
    { role: 'user', content },
    { role: 'assistant', content: '{}' },
  ],
});

test('datasets say which formats their rows were read as', async () => {
  const files = ['one.jsonl', 'two.json'].map((name) => join(folder, name));
  await writeFile(files[0] as string, '{"text": "x"}\n{"prompt": "q", "completion": "a"}\n{"text": "y"}\n');
  await writeFile(files[1] as string, '[{"instruction": "q", "output": "a"}]');
  const said: string[] = [];
  const rows = await readRows(projectOf(null), files, (text) => said.push(text));
  expect(rows.map(({ kind }) => kind)).toEqual(['text', 'messages', 'text', 'messages']);
  expect(said.map((text) => text.slice(text.indexOf('rows read')))).toEqual([
    'rows read 2 as text, 1 as prompt-completion',
    'rows read 1 as alpaca',
  ]);
});

test('columns that were not read are told by name, with the code that explains them', async () => {
  const file = join(folder, 'columns.jsonl');
  await writeFile(file, '{"text": "x", "source": "web"}\n{"text": "y", "source": "book", "topic": null}\n');
  const said: string[] = [];
  await readRows(projectOf(null), [file], (text) => said.push(text.trim()));
  expect(said[1]).toBe(`CUPEL_DATA_COLUMNS_IGNORED: ${file}: 1 column was not read: "source" (of 2 rows)`);
});

test('a row that asks what a test case asks is refused; of validation it is told; others are none of it', async () => {
  const said: TrainEvent[] = [];
  const review = async (text: string, file: string | null = policy): Promise<void> =>
    reviewTrainingData(projectOf(file), { rows: [row(text)] }, (event) => said.push(event));
  await expect(review(await asked('test'))).rejects.toMatchObject({ code: 'CUPEL_DATA_HELD_OUT', where: 'rows r1' });
  await review(await asked('validation'));
  expect(said).toMatchObject([{ type: 'warning', code: 'CUPEL_DATA_HELD_OUT' }]);
  await review('Something else altogether.');
  await review(await asked('test'), null);
  expect(said).toHaveLength(1);
});
