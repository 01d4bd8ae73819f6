import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { JudgePair, JudgeVerdict, Model } from '../../src/contracts/index.ts';
import { readTrainingRows } from '../../src/data/index.ts';
import { packageRoot } from '../../src/kit/index.ts';
import { openRegistry } from '../../src/plugins/registry.ts';
import { trainRewardCheckpoint } from '../lib/reward-checkpoint.ts';

const registry = await openRegistry();
const judges = await Promise.all(
  (await registry.ids('judge')).map(async (id) => [id, await registry.load('judge', id)] as const),
);
const prompt = 'Sum up: the parcel with the lamp is late.';
const pairs: readonly JudgePair[] = [
  { id: 'a', prompt, first: 'parcel is late: lamp', second: 'the lamp is blue' },
  { id: 'b', prompt, first: 'x', second: 'a much longer answer than the other one' },
  { id: 'same', prompt, first: 'late', second: 'late' },
  { id: 'empty', prompt, first: '', second: 'late' },
  { id: 'blank', prompt, first: 'late', second: ' \n' },
];

let folder: string;
let plain: Model;
let rewarding: Model;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cupel-judges-'));
  const engine = await registry.load('engine', 'native');
  const base = join(packageRoot(), 'fixtures/reference/e2e');
  plain = await engine.open({ id: 'tiny', path: base }, { threads: 1 });
  await trainRewardCheckpoint(
    plain,
    (await readTrainingRows(join(base, 'dpo.jsonl'))).slice(0, 4),
    join(folder, 'r'),
    3,
  );
  rewarding = await engine.open({ id: 'reward', path: join(folder, 'r') }, { threads: 1 });
});
afterAll(async () => {
  await plain.close();
  await rewarding.close();
  await rm(folder, { recursive: true, force: true });
});

it('there are judges to test', () => expect(judges.length).toBeGreaterThan(0));

describe.each(judges)('judge %s', (_, judge) => {
  let model: Model;
  beforeAll(async () => {
    // A judge that needs rewards says so of a model that has none.
    const refused = await judge.judge(pairs, { model: plain }).then(
      () => false,
      (error: { readonly code?: string }) => error.code === 'CUPEL_JUDGE_NO_REWARDS',
    );
    model = refused ? rewarding : plain;
  });

  it('says what it is', () => {
    expect(judge.kind).toBe('judge');
    expect(judge.summary).toMatch(/^[A-Z].{10,}/);
    expect(judge.version).toMatch(/^\d+\.\d+\.\d+$/);
  });

  it('gives one verdict a pair, in order, as a degree or as missing', async () => {
    const verdicts = await judge.judge(pairs, { model });
    expect(verdicts.map(({ id }) => id)).toEqual(pairs.map(({ id }) => id));
    for (const { preferSecond } of verdicts)
      expect(preferSecond === null || (preferSecond >= 0 && preferSecond <= 1)).toBe(true);
    expect(verdicts.filter(({ preferSecond }) => preferSecond !== null).length).toBeGreaterThan(0);
  });

  it('never lets an empty answer win or lose: it is missing, with a reason', async () => {
    const verdicts = new Map((await judge.judge(pairs, { model })).map((verdict) => [verdict.id, verdict]));
    for (const id of ['empty', 'blank'])
      expect(verdicts.get(id)).toMatchObject({ preferSecond: null, explanation: expect.stringMatching(/./) as string });
  });

  it('gives the same verdict whatever stands beside the pair, and in every run', async () => {
    const together = await judge.judge(pairs, { model });
    expect(await judge.judge([...pairs].reverse(), { model })).toEqual([...together].reverse());
    const alone: JudgeVerdict[] = [];
    for (const pair of pairs) alone.push(...(await judge.judge([pair], { model })));
    expect(alone).toEqual(together);
  });

  it('takes no pairs and gives no verdicts', async () => expect(await judge.judge([], { model })).toEqual([]));
});
