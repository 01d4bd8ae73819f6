import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type {
  GenerateRequest,
  Model,
  Objective,
  TrainEvent,
  TrainingRecord,
  TrainingRow,
  TrainJob,
} from '../../src/contracts/index.ts';
import { trainServices } from '../../src/train/index.ts';
import { ktoObjective } from '../../trainers/kto.ts';
import { dpoObjective } from '../../trainers/dpo.ts';
import { rewardObjective } from '../../trainers/reward.ts';
import { sftObjective } from '../../trainers/sft.ts';
import { byteModel } from './byte-model.ts';
import { answerRows, baseRecipe, labelledRows, pairRows, replayRows, trainingJob } from './training-job.ts';

const sft = sftObjective({ replayWeight: 1 });
const dpo = dpoObjective({ beta: 0.1, nllWeight: 0, labelSmoothing: 0, replayWeight: 1 });
const kto = ktoObjective({ beta: 0.1, loss: 'kto', desirableWeight: 1, undesirableWeight: 1, replayWeight: 1 });

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cupel-stop-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** Ends the answers to these probes, and keeps what it was asked. */
function answering(ends: (probe: number) => boolean): {
  open: () => Promise<Model>;
  asked: GenerateRequest[][];
  closed: () => number;
} {
  const asked: GenerateRequest[][] = [];
  let closed = 0;
  const model: Model = {
    ...byteModel,
    async *generate(requests) {
      asked.push([...requests]);
      for (const [probe, { id }] of requests.entries()) {
        yield {
          id,
          text: '',
          finish: ends(probe) ? 'stop' : 'length',
          usage: { promptTokens: 1, cachedTokens: 0, generatedTokens: 1 },
        };
      }
    },
    close: () => Promise.resolve(void closed++),
  };
  return { open: () => Promise.resolve(model), asked, closed: () => closed };
}

async function run(change: Partial<TrainJob>, objective: Objective = sft) {
  const events: TrainEvent[] = [];
  const job = trainingJob(folder, change);
  const result = await trainServices.run(job, objective, { ...baseRecipe, maxSteps: 1 }, (event) => events.push(event));
  const record = JSON.parse(await readFile(join(job.output, 'cupel_run.json'), 'utf8')) as TrainingRecord;
  const warnings = events.filter(
    (event) => event.type === 'warning' && ['CUPEL_TRAIN_STOP_RATE', 'CUPEL_TRAIN_NOT_MEASURED'].includes(event.code),
  );
  return { rate: result.metrics['stop_rate'], recorded: record.metrics['stop_rate'], warnings };
}

describe('whether a trained model ends its answers', () => {
  it('is asked in one call, of the saved weights, with the prompts and twice the room of what was learned', async () => {
    const { open, asked, closed } = answering(() => true);
    const folders: string[] = [];
    const { rate, recorded, warnings } = await run({
      openSavedModel: (path) => {
        folders.push(path);
        return open();
      },
    });
    expect([rate, recorded]).toEqual([1, 1]);
    expect(warnings).toEqual([]);
    expect(asked).toHaveLength(1);
    expect(closed()).toBe(1);
    expect(folders).toEqual([`${join(folder, 'out')}.partial`]);
    const prompts = answerRows.map((row) => {
      const { messages } = row as Extract<TrainingRow, { kind: 'messages' }>;
      return byteModel.tokenize(byteModel.render(messages.slice(0, 1)));
    });
    expect(asked[0]?.map(({ prompt }) => ('ids' in prompt ? [...prompt.ids] : null))).toEqual(prompts);
    expect(asked[0]?.[0]?.maxTokens).toBe(2 * ('ship'.length + 1) + 32);
  });

  it('is told where fewer than nine of ten end', async () => {
    const { rate, warnings } = await run({ openSavedModel: answering((probe) => probe > 0).open });
    expect(rate).toBeCloseTo(6 / 7);
    expect(warnings).toEqual([
      {
        type: 'warning',
        code: 'CUPEL_TRAIN_STOP_RATE',
        message: expect.stringContaining('6 of 7 answers') as string,
      },
    ]);
  });

  it('is asked of at most 20 prompts, spread over the data', async () => {
    const data = Array.from({ length: 50 }, (_, index) => ({ ...(answerRows[0] as TrainingRow), id: `r${index}` }));
    const { open, asked } = answering(() => true);
    await run({ data, openSavedModel: open });
    expect(asked[0]).toHaveLength(20);
  });

  it.each([
    ['chosen answers of pairs', dpo, pairRows, 7],
    [
      'desirable answers alone',
      kto,
      labelledRows,
      labelledRows.filter((row) => row.kind === 'labelled' && row.desirable).length,
    ],
    ['answers beside documents', sft, [...answerRows, ...replayRows], 7],
  ] as const)('is asked of %s', async (_, objective, data, count) => {
    const { open, asked } = answering(() => true);
    expect((await run({ data, openSavedModel: open }, objective)).rate).toBe(1);
    expect(asked[0]).toHaveLength(count);
  });

  it.each([
    ['documents', sft, replayRows],
    ['rewards', rewardObjective({ margin: 0, centering: 0 }), pairRows],
  ] as const)('is not asked of %s', async (_, objective, data) => {
    const opened = () => Promise.reject(new Error('must not be opened'));
    const { rate, warnings } = await run({ data, openSavedModel: opened }, objective);
    expect(rate).toBeUndefined();
    expect(warnings).toEqual([]);
  });

  it('never loses a training, when it can not be asked', async () => {
    const { rate, warnings } = await run({ openSavedModel: () => Promise.reject(new Error('no memory')) });
    expect(rate).toBeUndefined();
    expect(warnings).toEqual([
      { type: 'warning', code: 'CUPEL_TRAIN_NOT_MEASURED', message: 'whether answers end: no memory' },
    ]);
  });
});
