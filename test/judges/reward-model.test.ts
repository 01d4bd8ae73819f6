import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import native from '../../engines/native/index.ts';
import judge from '../../judges/reward-model.ts';
import type { JudgePair, Model } from '../../src/contracts/index.ts';
import { readTrainingRows } from '../../src/data/index.ts';
import { packageRoot } from '../../src/kit/index.ts';
import { trainRewardCheckpoint } from '../lib/reward-checkpoint.ts';

const base = { id: 'base', path: join(packageRoot(), 'fixtures/reference/e2e') };
const pairs: JudgePair[] = [];
let folder: string;
let plain: Model;
let model: Model;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cupel-reward-'));
  plain = await native.open(base, { threads: 1 });
  // A judge sees one prompt text: the last message of the user.
  const rows = (await readTrainingRows(join(base.path, 'dpo.jsonl'))).flatMap((row) =>
    row.kind === 'preference' ? [{ ...row, prompt: row.prompt.slice(-1) }] : [],
  );
  await trainRewardCheckpoint(plain, rows, join(folder, 'reward'), 30);
  model = await native.open({ id: 'reward', path: join(folder, 'reward') }, { threads: 1 });
  for (const { id, prompt, chosen, rejected } of rows)
    pairs.push({ id, prompt: prompt[0]?.content ?? '', first: rejected, second: chosen });
});
afterAll(async () => {
  await plain.close();
  await model.close();
  await rm(folder, { recursive: true, force: true });
});

it('prefers what the pairs of its training preferred', async () => {
  const verdicts = await judge.judge(pairs, { model });
  const right = verdicts.filter(({ preferSecond }) => (preferSecond ?? 0) > 0.5);
  expect(pairs.length).toBeGreaterThan(5);
  expect(right.length / pairs.length).toBeGreaterThanOrEqual(0.9);
});

it('gives the other order the rest of the probability', async () => {
  const turned = pairs.map(({ first, second, ...rest }) => ({ ...rest, first: second, second: first }));
  const [there, back] = [await judge.judge(pairs, { model }), await judge.judge(turned, { model })];
  for (const [index, { preferSecond }] of there.entries())
    expect((preferSecond ?? NaN) + (back[index]?.preferSecond ?? NaN)).toBeCloseTo(1, 12);
});

it('refuses a model without a reward head', async () => {
  await expect(judge.judge(pairs, { model: plain })).rejects.toMatchObject({ code: 'CUPEL_JUDGE_NO_REWARDS' });
});
