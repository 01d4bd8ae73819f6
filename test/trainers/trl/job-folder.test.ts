import { existsSync } from 'node:fs';
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { PreparedRow, TrainJob } from '../../../src/contracts/index.ts';
import { childEnvironment, differences, pins, trainCommand } from '../../../trainers/trl/environment.ts';
import { type ChildTask, taskDigest, writeJobFolder } from '../../../trainers/trl/job-folder.ts';
import { readTrlJob } from '../../../trainers/trl/parameters.ts';
import { checkSteps, childRows } from '../../../trainers/trl/rows.ts';

const row = (weights: readonly number[], promptLength: number): PreparedRow => ({
  id: 'r1',
  sequences: [
    {
      tokens: Int32Array.from(weights.map((_, index) => index + 5)),
      weights: Float64Array.from(weights),
      promptLength,
    },
  ],
});

function taskOf(parameters: Readonly<Record<string, unknown>>): ChildTask {
  const job = { id: 'job', parameters, replay: null, validation: null } as unknown as TrainJob;
  return {
    trl: readTrlJob(job),
    base: '/base',
    parent: 'sha256:base',
    rows: childRows([row([0, 0, 1, 1], 2), row([0, 1, 1, 0], 1)], 'answer'),
    steps: [{ rows: [1, 0], learningRate: 1e-3 }],
    seed: 3,
    padToken: 2,
    output: '/out',
    packages: ['torch', 'trl'],
  };
}

async function written(
  parameters: Readonly<Record<string, unknown>>,
): Promise<{ folder: string; job: Record<string, unknown> }> {
  const folder = await mkdtemp(join(tmpdir(), 'cupel-trl-job-'));
  const { job } = await writeJobFolder(folder, taskOf(parameters), false);
  return { folder, job: JSON.parse(await readFile(job, 'utf8')) as Record<string, unknown> };
}

const json = async (folder: string, name: string): Promise<unknown> =>
  JSON.parse(await readFile(join(folder, name), 'utf8'));

describe('what a child process is told', () => {
  it('writes token ids and labels as they were prepared, and the rows of each step with its learning rate', async () => {
    const { folder, job } = await written({ processes: 2, dtype: 'f32' });
    const rows = (await readFile(join(folder, 'rows.jsonl'), 'utf8')).trim().split('\n');
    expect(JSON.parse(rows[0] ?? '')).toEqual({
      id: 'r1',
      sequences: [{ tokens: [5, 6, 7, 8], labels: [0, 0, 1, 1], promptLength: 2 }],
    });
    expect(job).toMatchObject({
      steps: [[1, 0]],
      learningRates: [1e-3],
      processes: 2,
      rowsPerMicroBatch: 1,
      seed: 3,
      dtype: 'f32',
      fsdp: null,
      deepspeed: null,
      adapter: null,
      probe: [1],
    });
  });

  it('writes an FSDP configuration and the same for accelerate, readable by YAML 1.1', async () => {
    const { folder, job } = await written({ processes: 2, distributed: 'fsdp', device: 'cpu' });
    expect(job['fsdp']).toBe(join(folder, 'fsdp.json'));
    expect(await json(folder, 'fsdp.json')).toMatchObject({ version: 2, state_dict_type: 'FULL_STATE_DICT' });
    expect(existsSync(join(folder, 'deepspeed.json'))).toBe(false);
    const accelerate = await readFile(join(folder, 'accelerate.yaml'), 'utf8');
    expect(accelerate).toContain('distributed_type: FSDP');
    expect(accelerate).toContain('fsdp_version: 2');
    expect(accelerate).toContain('mixed_precision: "no"');
  });

  it.each([1, 2, 3])('writes a DeepSpeed configuration of ZeRO stage %i', async (stage) => {
    const { folder, job } = await written({ processes: 2, distributed: `deepspeed-zero${stage}`, compute: 'bf16' });
    expect(job['deepspeed']).toBe(join(folder, 'deepspeed.json'));
    expect(await json(folder, 'deepspeed.json')).toMatchObject({
      zero_optimization: { stage },
      bf16: { enabled: true },
    });
  });

  it('removes configurations of an earlier job, and a stop file', async () => {
    const { folder } = await written({ processes: 2, distributed: 'fsdp' });
    await writeFile(join(folder, 'STOP'), '');
    await writeJobFolder(folder, taskOf({}), false);
    expect(existsSync(join(folder, 'fsdp.json'))).toBe(false);
    expect(existsSync(join(folder, 'STOP'))).toBe(false);
  });

  it('names another job by another digest, and the same one whatever checkpoints it keeps', () => {
    const digest = taskDigest(taskOf({}));
    expect(taskDigest(taskOf({ checkpoints: { everySteps: 5, keep: 1 } }))).toBe(digest);
    expect(taskDigest(taskOf({ weightDecay: 0.5 }))).not.toBe(digest);
    expect(taskDigest({ ...taskOf({}), seed: 4 })).not.toBe(digest);
    expect(taskDigest({ ...taskOf({}), parent: 'sha256:another' })).not.toBe(digest);
    expect(taskDigest({ ...taskOf({}), rows: taskOf({}).rows.slice(1) })).not.toBe(digest);
  });

  it('refuses a weight between 0 and 1, which a mask can not say', () => {
    expect(() => childRows([row([0, 0, 0.5], 2)], 'answer')).toThrow('weight 0.5');
  });

  it('cuts what follows the answer of a preference, and refuses an answer with gaps', () => {
    expect(childRows([row([0, 0, 1, 1, 0], 2)], 'pair')[0]?.sequences[0]).toEqual({
      tokens: [5, 6, 7, 8],
      labels: [0, 0, 1, 1],
      promptLength: 2,
    });
    expect(() => childRows([row([0, 1, 0, 1], 1)], 'pair')).toThrow('not one run');
  });

  it('refuses a step with fewer rows than parts', () => {
    expect(() => checkSteps([[0, 1, 2, 3], [4]], 2, 1)).toThrow('step 2 has 1 rows, to be divided into 2 parts');
    expect(() => checkSteps([[0, 1, 2, 3]], 2, 2)).not.toThrow();
  });
});

describe('the environment of a child process', () => {
  it('pins exact versions, and takes a local part for the same version', async () => {
    const wanted = await pins();
    expect(Object.keys(wanted)).toContain('trl');
    expect(Object.values(wanted).every((version) => /^\d+(\.\d+)+$/.test(version))).toBe(true);
    expect(differences({ torch: '2.15.0' }, { torch: '2.15.0+cpu' })).toEqual([]);
    expect(differences({ torch: '2.15.0', trl: '1.16.0' }, { torch: '2.14.0', trl: null })).toEqual([
      'torch 2.14.0 (pinned: 2.15.0)',
      'trl missing (pinned: 1.16.0)',
    ]);
  });

  it('starts torchrun always, also for one process', () => {
    const command = trainCommand('/venv/bin/python', 1, '/job.json');
    expect(command.slice(0, 4)).toEqual(['/venv/bin/python', '-I', '-m', 'torch.distributed.run']);
    expect(command.join(' ')).toContain('--nproc_per_node 1');
  });

  it('goes without network and without the variables of the user', () => {
    process.env['CUPEL_TEST_SECRET'] = 'x';
    process.env['NCCL_P2P_DISABLE'] = '1';
    const environment = childEnvironment(2, '/cache');
    delete process.env['CUPEL_TEST_SECRET'];
    delete process.env['NCCL_P2P_DISABLE'];
    expect(environment['NCCL_P2P_DISABLE']).toBe('1');
    expect(environment).toMatchObject({ HF_HUB_OFFLINE: '1', TOKENIZERS_PARALLELISM: 'false', HF_HOME: '/cache' });
    expect(environment).not.toHaveProperty('CUPEL_TEST_SECRET');
    expect(environment).not.toHaveProperty('PYTHONPATH');
  });
});
