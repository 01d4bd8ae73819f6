import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine, FrozenType, Model, Progress, TrainingRecord } from '../../src/contracts/index.ts';
import { digestFolder, packageRoot, readSafetensors } from '../../src/kit/index.ts';
import { openRegistry } from '../../src/plugins/registry.ts';
import { mergeAdapter, mergeModels, readMergeRecipe } from '../../src/jobs/merge-models.ts';
import { quantizeCheckpoint } from '../../src/jobs/quantize.ts';
import { byteTokenizer } from '../support/byte-tokenizer.ts';

const reference = join(packageRoot(), 'fixtures/reference');
const adapters = join(reference, 'engine/adapters');
const e2e = join(reference, 'e2e');
let folder: string;
let native: Engine;

/** A reference model with a tokenizer, as the engine wants one. */
async function withTokenizer(name: string, below = 'models'): Promise<string> {
  const path = join(folder, name);
  await cp(join(reference, below, name), path, { recursive: true });
  const { vocab_size: size } = JSON.parse(await readFile(join(path, 'config.json'), 'utf8')) as { vocab_size: number };
  await writeFile(join(path, 'tokenizer.json'), JSON.stringify(byteTokenizer(size)));
  await writeFile(join(path, 'tokenizer_config.json'), JSON.stringify({ eos_token: '</s>' }));
  return path;
}

/** Natural-log probabilities of every token but the first of a reference batch. */
async function scores(model: Model, name: string, adapter?: string): Promise<number[]> {
  const { batches } = JSON.parse(await readFile(join(reference, 'models', name, 'batches.json'), 'utf8')) as {
    batches: { input_ids: number[][]; attention_mask: number[][] }[];
  };
  const [batch] = batches;
  const results = await model.score(
    (batch?.input_ids ?? []).map((ids, row) => {
      const length = batch?.attention_mask[row]?.reduce((sum, value) => sum + value, 0) ?? 0;
      return {
        contextIds: ids.slice(0, 1),
        continuationIds: ids.slice(1, length),
        ...(adapter === undefined ? {} : { adapter }),
      };
    }),
  );
  return results.flatMap(({ logProbabilities }) => [...logProbabilities]);
}

const progress: Progress = {
  note: () => undefined,
  begin: () => ({ advance: () => undefined, detail: () => undefined, end: () => undefined }),
};
const step = { seed: 1, threads: 1, progress, signal: new AbortController().signal };

const worst = (a: readonly number[], b: readonly number[]): number =>
  Math.max(...a.map((value, index) => Math.abs(value - (b[index] as number))));

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cupel-merge-models-'));
  native = await (await openRegistry()).load('engine', 'native');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** The adapter that belongs to a reference model, merged into it. */
async function adapted(
  name: string,
  output: string,
  baseType: FrozenType | null = 'f32',
  dtype: 'f32' | 'bf16' = 'f32',
) {
  const [base, adapter] = [join(folder, name), join(adapters, name)];
  return mergeAdapter({ ...step, base, adapter, output: join(folder, output), dtype, baseType });
}

describe('an adapter merged into its base', () => {
  it.each(['llama-untied', 'qwen2-tied', 'llama-tied-gqa9'])(
    '%s: is the adapted model within 1e-5, and quantizes to what it is',
    async (name) => {
      const base = await withTokenizer(name);
      const { path, digest, method } = await adapted(name, `${name}-merged`);
      expect([path, digest, method]).toEqual([join(folder, `${name}-merged`), await digestFolder(path), 'adapter']);
      const record = JSON.parse(await readFile(join(path, 'cupel_run.json'), 'utf8')) as TrainingRecord;
      expect(record).toMatchObject({
        parent: await digestFolder(base),
        merge: { method: 'adapter', parents: [{ name, digest: await digestFolder(join(adapters, name)) }] },
      });
      const target = join(folder, `${name}.gguf`);
      await quantizeCheckpoint({ source: path, target, type: 'q8_0', preTokenizer: 'gpt-2', threads: 1 });
      const open = (one: string, options = {}): Promise<Model> =>
        native.open({ id: 'x', path: one }, { threads: 1, ...options });
      const beside = await open(base, { adapters: { it: join(adapters, name) } });
      const [merged, shipped] = [await open(path), await open(target)];
      const [expected, plain, found, quantized] = [
        await scores(beside, name, 'it'),
        await scores(beside, name),
        await scores(merged, name),
        await scores(shipped, name),
      ];
      expect(worst(expected, found)).toBeLessThanOrEqual(1e-5);
      // The adapter does something, and 8 bits lose less than it gives.
      expect(worst(expected, plain)).toBeGreaterThan(1e-2);
      expect(worst(expected, quantized)).toBeLessThan(worst(expected, plain));
      for (const model of [beside, merged, shipped]) await model.close();
    },
  );

  it.each(['rank-stabilized', 'patterns', 'some-modules', 'alpha'])(
    'may be of any LoRA that PEFT writes, also over a base that is not trained here: %s',
    async (name) => {
      const base = await withTokenizer('qwen3-tied', 'engine/models');
      const { metrics, path } = await mergeAdapter({
        ...step,
        base,
        adapter: join(adapters, name),
        output: join(folder, `qwen3-${name}`),
        dtype: 'f32',
        baseType: null,
      });
      expect(metrics['merge_difference']).toBeLessThanOrEqual(1e-5);
      expect(metrics['relative_change']).toBeGreaterThan(0.01);
      await rm(path, { recursive: true });
      await rm(base, { recursive: true });
    },
  );

  it.each(['refused-dora', 'refused-bias', 'refused-modules-to-save', 'refused-head'])(
    'is refused by name where it does more: %s',
    async (name) => {
      const base = await withTokenizer('qwen3-tied', 'engine/models');
      const output = join(folder, 'none');
      const input = { ...step, base, adapter: join(adapters, name), output, dtype: 'f32', baseType: null } as const;
      await expect(mergeAdapter(input)).rejects.toMatchObject({ code: 'CUPEL_NATIVE_ADAPTER_INVALID' });
      expect((await readdir(folder)).filter((entry) => entry.startsWith('none'))).toEqual([]);
      await rm(base, { recursive: true });
    },
  );

  it('stands on the base as it was rounded while the adapter was trained', async () => {
    const name = 'model.layers.0.self_attn.q_proj.weight';
    const paths = [join(folder, 'llama-untied-merged'), (await adapted('llama-untied', 'rounded', 'q8_0')).path];
    const [a, b] = await Promise.all(
      paths.map(async (path) => (await readSafetensors(join(path, 'model.safetensors'))).tensors.get(name)?.data),
    );
    const difference = worst([...(a as Float32Array)], [...(b as Float32Array)]);
    expect(difference).toBeGreaterThan(0);
    // Half a step of 8 bits, of a block whose largest weight is below 0.5.
    expect(difference).toBeLessThan(0.25 / 127);
  });

  it('stands on what the record of the adapter says, and another base or type is told', async () => {
    const trained = join(folder, 'trained-adapter');
    await cp(join(adapters, 'llama-untied'), trained, { recursive: true });
    const record = { parent: 'sha256:another', tuning: { kind: 'qlora', base: 'q8_0' } };
    await writeFile(join(trained, 'cupel_run.json'), JSON.stringify(record));
    const notes: string[] = [];
    const merged = async (output: string, baseType: FrozenType | null): Promise<Float32Array | undefined> => {
      const told = { ...progress, note: (text: string) => notes.push(text) };
      const base = join(folder, 'llama-untied');
      const input = {
        ...step,
        progress: told,
        base,
        adapter: trained,
        output: join(folder, output),
        dtype: 'f32',
      } as const;
      const { path } = await mergeAdapter({ ...input, baseType });
      const { tensors } = await readSafetensors(join(path, 'model.safetensors'));
      return tensors.get('model.layers.0.self_attn.q_proj.weight')?.data;
    };
    const rounded = await readSafetensors(join(folder, 'rounded', 'model.safetensors'));
    expect(await merged('by-record', null)).toEqual(
      rounded.tensors.get('model.layers.0.self_attn.q_proj.weight')?.data,
    );
    expect(notes).toEqual(['  trained-adapter was trained over another base than llama-untied']);
    await merged('by-flag', 'f32');
    expect(notes).toContain(
      '  trained-adapter was trained over a base held as q8_0, and is merged into one held as f32',
    );
  });

  it('is written as bf16 when asked', async () => {
    const { path } = await adapted('llama-untied', 'narrow', 'f32', 'bf16');
    const { tensors } = await readSafetensors(join(path, 'model.safetensors'));
    expect(new Set([...tensors.values()].map(({ dtype }) => dtype))).toEqual(new Set(['BF16']));
  });

  it('is refused where the folder is no adapter, or the target exists, and nothing is written', async () => {
    const base = join(folder, 'llama-untied');
    const target = { ...step, base, dtype: 'f32', baseType: 'f32' } as const;
    const output = join(folder, 'none');
    await expect(mergeAdapter({ ...target, adapter: e2e, output })).rejects.toMatchObject({
      code: 'CUPEL_FILE_MISSING',
    });
    const empty = join(folder, 'empty-adapter');
    await cp(join(adapters, 'llama-untied'), empty, { recursive: true });
    await writeFile(join(empty, 'adapter_config.json'), '{"r": "four"}');
    await expect(mergeAdapter({ ...target, adapter: empty, output })).rejects.toMatchObject({
      code: 'CUPEL_MERGE_ADAPTER_INVALID',
    });
    await cp(join(adapters, 'llama-untied/adapter_config.json'), join(empty, 'adapter_config.json'));
    await writeFile(join(empty, 'adapter_model.safetensors'), Buffer.alloc(20, 255));
    await expect(mergeAdapter({ ...target, adapter: empty, output })).rejects.toMatchObject({
      code: expect.stringMatching(/^CUPEL_NATIVE_/) as string,
    });
    await expect(
      mergeAdapter({ ...target, adapter: join(adapters, 'llama-untied'), output: base }),
    ).rejects.toMatchObject({ code: 'CUPEL_MERGE_TARGET' });
    expect((await readdir(folder)).filter((entry) => entry.startsWith('none'))).toEqual([]);
  });
});

describe('a merge recipe', () => {
  it('has paths that start at the file', async () => {
    const file = join(folder, 'ties.yaml');
    await writeFile(
      file,
      'method: ties\nbase: base\nmodels:\n  - path: tuned\n    weight: 0.5\nout: merged\nseed: 4\n',
    );
    expect(await readMergeRecipe(file)).toEqual({
      base: join(folder, 'base'),
      adapter: null,
      baseType: null,
      out: join(folder, 'merged'),
      seed: 4,
      parameters: { method: 'ties', models: [{ path: join(folder, 'tuned'), weight: 0.5 }] },
    });
  });

  it.each([
    ['method: sum', 'CUPEL_FIELD_INVALID'],
    ['methods: ties', 'CUPEL_FIELD_UNKNOWN'],
    ['method: adapter\nbase: a', 'CUPEL_MERGE_RECIPE'],
    ['method: ties\nadapter: a', 'CUPEL_MERGE_RECIPE'],
    ['models: [', 'CUPEL_JSON_INVALID'],
    ['models: [{ path: a, density: 2 }]', 'CUPEL_FIELD_INVALID'],
    ['a: &a [1]\nb: *a', 'CUPEL_FIELD_UNKNOWN'],
    [`a: &a [1, 1]\nb: &b [${'*a, '.repeat(40)}1]\nc: [${'*b, '.repeat(40)}1]`, 'CUPEL_JSON_INVALID'],
  ])('%j is refused: %s', async (text, code) => {
    const file = join(folder, 'bad.yaml');
    await writeFile(file, text);
    await expect(readMergeRecipe(file)).rejects.toMatchObject({ code });
  });

  it('is merged into a folder whose digest is told', async () => {
    const parameters = { method: 'slerp', models: [{ path: e2e }], t: 0.5 };
    const result = await mergeModels({ ...step, base: e2e, output: join(folder, 'same'), parameters });
    expect(result).toMatchObject({ method: 'slerp', digest: await digestFolder(join(folder, 'same')) });
    expect(result.metrics['relative_change']).toBeLessThan(1e-6);
  });
});
