import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { ModelSettings } from '../../src/contracts/index.ts';
import { digestFolder, ggufFileOf, Random, readJson, type Tensor, writeSafetensors } from '../../src/kit/index.ts';
import { evaluateCheckpoint } from '../../src/jobs/evaluate.ts';
import { collectRuns } from '../../src/jobs/gate.ts';
import {
  checkpointDigest,
  findCheckpoint,
  openProject,
  type Project,
  wholeCheckpoint,
} from '../../src/jobs/project.ts';
import { adoptBaseline } from '../../src/jobs/promote.ts';
import { quantizeCheckpoint } from '../../src/jobs/quantize.ts';
import { writeReports } from '../../src/jobs/report.ts';
import { trainCheckpoint } from '../../src/jobs/train.ts';
import { basePath, smallProject } from '../lib/project.ts';

const silent = {
  begin: () => ({ advance: () => undefined, detail: () => undefined, end: () => undefined }),
  note: () => undefined,
};

const open = (config: string): Promise<Project> =>
  openProject({ config, progress: silent, signal: new AbortController().signal });

async function evaluated(
  project: Project,
  checkpoint: string,
): Promise<{ digest: string; engine: unknown; texts: string[] }> {
  const [found] = await evaluateCheckpoint(project, { checkpoint, suites: ['./triage'], limit: 4 });
  const run = await project.runs.read(found?.run ?? '');
  return {
    digest: run.identity.checkpoint.digest,
    engine: run.identity.decoding['engine'],
    texts: run.rows.map(({ output }) => output?.text ?? ''),
  };
}

test('a GGUF file is evaluated, stored and found again like a folder', { timeout: 120_000 }, async () => {
  const small = smallProject({
    checkpoints: {
      base: { path: basePath },
      file: { path: 'base-f32.gguf' },
      narrow: { path: 'base-f32.gguf', engine: { weights: 'q8_0', kvCache: 'q8_0' } },
    },
  });
  const file = join(small.folder, 'base-f32.gguf');
  await quantizeCheckpoint({ source: basePath, target: file, type: 'f32', preTokenizer: 'gpt-2' });
  const project = await open(small.config);
  const [base, same, narrow] = [
    await evaluated(project, 'base'),
    await evaluated(project, 'file'),
    await evaluated(project, 'narrow'),
  ];
  expect(same.texts).toEqual(base.texts);
  expect(same.digest).toBe(await digestFolder(file));
  expect(same.digest).not.toBe(base.digest);
  expect(narrow.digest).toBe(same.digest);
  expect([same.engine, narrow.engine]).toEqual<ModelSettings[]>([
    { weights: 'as-stored', kvCache: 'default' },
    { weights: 'q8_0', kvCache: 'q8_0' },
  ]);
  // The scorecard says what was measured.
  await evaluateCheckpoint(project, { checkpoint: 'narrow', suites: ['./triage'] });
  const [scorecard = ''] = await writeReports(project, ['narrow'], ['markdown']);
  expect((await readFile(scorecard, 'utf8')).replaceAll('\\', '')).toContain(
    'weights q8_0 and a KV cache of type q8_0',
  );
  // By path, as on the command line.
  expect(await findCheckpoint(project, file)).toMatchObject({ id: 'base-f32', path: file });

  const entry = await adoptBaseline(project, 'file');
  expect(entry.checkpoint.digest).toBe(same.digest);
  const kept = project.checkpoints.locate(entry);
  expect(await readdir(kept)).toEqual(['base-f32.gguf']);
  expect((await evaluated(project, kept)).texts).toEqual(base.texts);
  await project.checkpoints.verify(project.config.channel);
});

test(
  'a base with an adapter is a checkpoint of its own, and can neither be promoted nor trained',
  { timeout: 120_000 },
  async () => {
    const small = smallProject({
      checkpoints: { base: { path: basePath }, adapted: { path: basePath, adapter: 'adapter' } },
    });
    await writeAdapter(join(small.folder, 'adapter'));
    const project = await open(small.config);
    const [base, adapted] = [await evaluated(project, 'base'), await evaluated(project, 'adapted')];
    expect(adapted.digest).not.toBe(base.digest);
    expect(adapted.texts).not.toEqual(base.texts);
    const info = await findCheckpoint(project, 'adapted');
    expect(() => wholeCheckpoint(info)).toThrowError(expect.objectContaining({ code: 'CUPEL_CHECKPOINT_ADAPTER' }));
    await expect(adoptBaseline(project, 'adapted')).rejects.toMatchObject({ code: 'CUPEL_CHECKPOINT_ADAPTER' });
    await expect(
      trainCheckpoint(project, {
        checkpoint: 'sft',
        trainer: 'sft',
        base: 'adapted',
        data: ['tickets'],
        replay: null,
        parameters: {},
        role: 'candidate',
        description: '',
      }),
    ).rejects.toMatchObject({ code: 'CUPEL_CHECKPOINT_ADAPTER' });
    expect(existsSync(project.at('candidates', 'sft'))).toBe(false);
  },
);

test('of several runs the gate takes that of the project’s seed, opened as the checkpoint is', async () => {
  const elsewhere = { path: basePath, engine: { kvCache: 'q8_0' } };
  const small = smallProject({ checkpoints: { base: elsewhere } });
  const seeds = [3, 4, 5, 6];
  for (const seed of [...seeds, 4]) {
    small.configure({ seed });
    const project = await open(small.config);
    await evaluateCheckpoint(project, { checkpoint: 'base', suites: ['./triage'] });
    const info = await findCheckpoint(project, 'base');
    const { runs } = await collectRuns(project, info, await checkpointDigest(info), true);
    expect(runs.map(({ run }) => run.identity.seed)).toEqual([seed]);
  }
  // The same weights by their path are opened as the project says, not as the checkpoint of the same name.
  const project = await open(small.config);
  const info = await findCheckpoint(project, `${basePath}/.`);
  expect(info.id).toBe('base');
  const digest = await checkpointDigest(info);
  expect((await collectRuns(project, info, digest, true)).runs).toEqual([]);
  await evaluateCheckpoint(project, { checkpoint: `${basePath}/.`, suites: ['./triage'] });
  const { runs } = await collectRuns(project, info, digest, true);
  expect(runs.map(({ run }) => run.identity.decoding['engine'])).toEqual([
    { weights: 'as-stored', kvCache: 'default' },
  ]);
}, 120_000);

test('a folder with one GGUF file is one, also with a config.json beside it', async () => {
  const small = smallProject();
  small.write('folder/model.gguf', 'GGUF');
  small.write('folder/config.json', '{}');
  const folder = join(small.folder, 'folder');
  expect(await ggufFileOf(folder)).toBe(join(folder, 'model.gguf'));
  small.write('folder/model.safetensors', '');
  expect(await ggufFileOf(folder)).toBeNull();
});

/** A LoRA adapter of rank 2 on the query projections, with random matrices, as PEFT writes it. */
async function writeAdapter(folder: string): Promise<void> {
  const config = await readJson<Record<string, number>>(join(basePath, 'config.json'));
  const [hidden, heads, layers] = [
    config['hidden_size'],
    config['num_attention_heads'],
    config['num_hidden_layers'],
  ] as [number, number, number];
  const width = (config['head_dim'] ?? hidden / heads) * heads;
  const random = new Random(1, 'adapter');
  const matrix = (name: string, shape: [number, number]): Tensor => ({
    name,
    dtype: 'F32',
    shape,
    data: Float32Array.from({ length: shape[0] * shape[1] }, () => random.normal()),
  });
  await mkdir(folder);
  await writeFile(
    join(folder, 'adapter_config.json'),
    JSON.stringify({
      peft_type: 'LORA',
      task_type: 'CAUSAL_LM',
      r: 2,
      lora_alpha: 4,
      lora_dropout: 0,
      bias: 'none',
      target_modules: ['q_proj'],
      base_model_name_or_path: 'base',
    }),
  );
  const tensors = Array.from({ length: layers }, (_, layer) => {
    const name = `base_model.model.model.layers.${layer}.self_attn.q_proj`;
    return [matrix(`${name}.lora_A.weight`, [2, hidden]), matrix(`${name}.lora_B.weight`, [width, 2])];
  }).flat();
  await writeSafetensors(join(folder, 'adapter_model.safetensors'), tensors);
}
