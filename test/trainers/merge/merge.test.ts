import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TrainEvent, TrainingRecord, TrainJob, TrainResult } from '../../../src/contracts/index.ts';
import {
  digestFolder,
  listFileDigests,
  openTensors,
  packageRoot,
  readSafetensors,
  sha256,
  writeSafetensors,
} from '../../../src/kit/index.ts';
import { openRegistry } from '../../../src/plugins/registry.ts';
import { linear } from '../../../trainers/merge/linear.ts';
import { ties } from '../../../trainers/merge/ties.ts';

const base = join(packageRoot(), 'fixtures/reference/e2e');
const merge = await (await openRegistry()).load('trainer', 'merge');
let folder: string;
let [a, b] = ['', ''];

/** The base with every weight moved a little. */
async function moved(name: string, by: (value: number, index: number) => number, from = base): Promise<string> {
  const path = join(folder, name);
  await cp(from, path, { recursive: true });
  const { tensors } = await readSafetensors(join(from, 'model.safetensors'));
  await writeSafetensors(
    join(path, 'model.safetensors'),
    [...tensors.values()].map((tensor) => ({ ...tensor, data: tensor.data.map(by) })),
  );
  return path;
}

async function changedConfig(name: string, change: Readonly<Record<string, unknown>>, from = a): Promise<string> {
  const path = join(folder, name);
  await cp(from, path, { recursive: true });
  const config = JSON.parse(await readFile(join(from, 'config.json'), 'utf8')) as object;
  await writeFile(join(path, 'config.json'), JSON.stringify({ ...config, ...change }));
  return path;
}

function job(name: string, parameters: Readonly<Record<string, unknown>>, change: Partial<TrainJob> = {}): TrainJob {
  return {
    id: name,
    base: { id: 'base', path: base },
    model: null,
    openLearner: null,
    openTeacher: null,
    services: null,
    data: [],
    replay: null,
    parameters,
    seed: 7,
    output: join(folder, name),
    work: null,
    resume: false,
    validation: null,
    ...change,
  };
}

function run(one: TrainJob, events: TrainEvent[] = [], signal?: AbortSignal): Promise<TrainResult> {
  return merge.train(one, (event) => events.push(event), signal);
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cupel-merge-'));
  a = await moved('a', (value, index) => value + 0.01 * Math.sin(index));
  b = await moved('b', (value, index) => value + 0.01 * Math.cos(3 * index));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('merging folders', () => {
  it('writes every tensor as the method has it, with tokenizer, template and config of the base', async () => {
    const events: TrainEvent[] = [];
    const one = job('ties', {
      method: 'ties',
      dtype: 'f32',
      models: [
        { path: a, weight: 0.5 },
        { path: b, density: 0.25 },
      ],
    });
    const result = await run(one, events);
    const [own, first, second, found] = await Promise.all(
      [base, a, b, one.output].map(async (path) => (await readSafetensors(join(path, 'model.safetensors'))).tensors),
    );
    expect([...(found?.keys() ?? [])]).toEqual([...(own?.keys() ?? [])].sort());
    for (const [name, tensor] of found ?? []) {
      const expected = ties(
        own?.get(name)?.data as Float32Array,
        [first?.get(name)?.data as Float32Array, second?.get(name)?.data as Float32Array],
        { weights: [0.5, 1], densities: [0.5, 0.25], lambda: 1, normalize: true },
      );
      expect(tensor.shape).toEqual(own?.get(name)?.shape);
      expect(Buffer.from(tensor.data.buffer).equals(Buffer.from(expected.buffer)), name).toBe(true);
    }
    for (const file of ['tokenizer.json', 'chat_template.jinja', 'tokenizer_config.json'])
      expect(await readFile(join(one.output, file))).toEqual(await readFile(join(base, file)));
    expect(events.map((event) => event.type === 'progress' && event.done)).toEqual(
      [...Array(found?.size).keys()].map((index) => index + 1),
    );
    expect(result.metrics['relative_change']).toBeGreaterThan(0);
  });

  it('leaves a record that names method, parameters and the digests of all parents', async () => {
    const one = job('dare', { method: 'dare-ties', density: 0.4, models: [{ path: a }, { path: b, weight: 0.5 }] });
    const { metrics } = await run(one);
    const record = JSON.parse(await readFile(join(one.output, 'cupel_run.json'), 'utf8')) as TrainingRecord;
    expect(record).toMatchObject({
      version: 1,
      trainer: 'merge@1.0.0',
      parent: await digestFolder(base),
      seed: 7,
      metrics,
    });
    expect(record.merge).toEqual({
      method: 'dare-ties',
      parents: [
        { name: 'a', digest: await digestFolder(a) },
        { name: 'b', digest: await digestFolder(b) },
      ],
      parameters: {
        weights: [1, 0.5],
        densities: [0.4, 0.4],
        lambda: 1,
        normalize: false,
        rescale: 'inverse-density',
        dtype: 'f32',
      },
    });
  });

  it('gives the same bytes again, and others with another seed', async () => {
    const parameters = { method: 'dare-linear', models: [{ path: a }] };
    await run(job('again-1', parameters));
    await run(job('again-2', parameters));
    await run(job('again-3', parameters, { seed: 8 }));
    const [one, two, three] = await Promise.all(
      [1, 2, 3].map((index) => listFileDigests(join(folder, `again-${index}`))),
    );
    expect(two).toEqual(one);
    expect(three).not.toEqual(one);
  });

  it('reads shards, writes bf16, and makes a soup without a base', async () => {
    const sharded = join(packageRoot(), 'fixtures/reference/engine/models/llama-bf16-sharded');
    const one = job('soup', { models: [{ path: sharded }, { path: sharded, weight: 3 }] }, { base: null });
    await run(one);
    const [source, found] = [await openTensors(sharded), await openTensors(one.output)];
    expect([...found.entries.keys()]).toEqual([...source.entries.keys()]);
    for (const name of found.entries.keys()) expect(await found.read(name)).toEqual(await source.read(name));
    await source.close();
    await found.close();
    expect(await readdir(one.output)).toContain('config.json');
  });

  it('merges by weights that a person can check', async () => {
    const one = job('linear', {
      method: 'linear',
      models: [
        { path: base, weight: 1 },
        { path: a, weight: 3 },
      ],
    });
    await run(one);
    const name = 'model.norm.weight';
    const [own, other, found] = await Promise.all(
      [base, a, one.output].map(
        async (path) => (await readSafetensors(join(path, 'model.safetensors'))).tensors.get(name)?.data,
      ),
    );
    expect(found).toEqual(
      linear([own as Float32Array, other as Float32Array], { weights: [0.25, 0.75], normalize: false }),
    );
  });

  it('stops when asked, and leaves nothing', async () => {
    const abort = new AbortController();
    const one = job('stopped', { method: 'linear', models: [{ path: a }] });
    const events: TrainEvent[] = [];
    const running = merge.train(
      one,
      (event) => {
        events.push(event);
        if (events.length === 2) abort.abort();
      },
      abort.signal,
    );
    await expect(running).rejects.toMatchObject({ name: 'AbortError' });
    expect((await readdir(folder)).filter((name) => name.startsWith('stopped'))).toEqual([]);
  });

  it('plans from headers alone', async () => {
    const plan = await merge.plan(job('planned', { models: [{ path: a }, { path: b }] }));
    const { tensors } = await readSafetensors(join(base, 'model.safetensors'));
    const sizes = [...tensors.values()].map(({ data }) => data.length);
    expect(plan).toMatchObject({ steps: sizes.length, parameters: sizes.reduce((x, y) => x + y, 0) });
    expect(plan.memoryBytes).toBe(4 * Math.max(...sizes) * 8);
  });
});

describe('merging refuses', () => {
  const refuses = async (
    name: string,
    parameters: Readonly<Record<string, unknown>>,
    expected: { readonly code: string; readonly message?: string },
    change: Partial<TrainJob> = {},
  ): Promise<void> => {
    await expect(run(job(name, parameters, change))).rejects.toMatchObject(expected);
    expect((await readdir(folder)).filter((entry) => entry.startsWith(name))).toEqual([]);
  };

  it('sizes and architectures that differ, by the field', async () => {
    await refuses(
      'x-1',
      { models: [{ path: await changedConfig('wider', { hidden_size: 4096 }) }] },
      {
        code: 'CUPEL_MERGE_ARCHITECTURE',
        message: expect.stringMatching(/^hidden_size is 4096 in one and \d+ in the other$/) as string,
      },
    );
    const qwen = await changedConfig('qwen', { model_type: 'qwen2' });
    await refuses('x-2', { models: [{ path: qwen }] }, { code: 'CUPEL_MERGE_ARCHITECTURE' });
  });

  it('a tied head beside one of its own', async () => {
    const untied = await changedConfig('untied', { tie_word_embeddings: false });
    await refuses('x-3', { models: [{ path: untied }] }, { code: 'CUPEL_MERGE_TIED_HEAD' });
  });

  it('tensors that are missing or of another shape, by name', async () => {
    const short = await moved('short', (value) => value);
    const { tensors } = await readSafetensors(join(short, 'model.safetensors'));
    const [first, ...rest] = [...tensors.values()];
    await writeSafetensors(join(short, 'model.safetensors'), rest);
    await refuses(
      'x-4',
      { models: [{ path: short }] },
      {
        code: 'CUPEL_MERGE_TENSORS',
        message: expect.stringContaining(`lacks 1 tensors: ${first?.name}`) as string,
      },
    );
    await writeSafetensors(join(short, 'model.safetensors'), [
      ...rest,
      { name: first?.name ?? '', dtype: 'F32', shape: [3], data: new Float32Array(3) },
    ]);
    await refuses(
      'x-5',
      { models: [{ path: short }] },
      {
        code: 'CUPEL_MERGE_TENSORS',
        message: expect.stringContaining('has shape [3]') as string,
      },
    );
  });

  it('another vocabulary, by the token', async () => {
    const other = await changedConfig('vocabulary', {});
    const file = join(other, 'tokenizer.json');
    const tokenizer = JSON.parse(await readFile(file, 'utf8')) as { added_tokens: { content: string }[] };
    const token = tokenizer.added_tokens.at(-1) as { content: string };
    token.content = '<|other|>';
    await writeFile(file, JSON.stringify(tokenizer));
    await refuses(
      'x-6',
      { models: [{ path: other }] },
      {
        code: 'CUPEL_MERGE_VOCABULARY',
        message: expect.stringContaining('1 tokens differ: "<|other|>"') as string,
      },
    );
  });

  it.each([
    ['NaN', Number.NaN],
    ['infinity', Infinity],
  ])('%s in a parent, by tensor and position', async (label, value) => {
    const bad = await moved(`bad-${label}`, (old, index) => (index === 5 ? value : old));
    await refuses(
      `y-${label}`,
      { models: [{ path: bad }] },
      {
        code: 'CUPEL_MERGE_NOT_FINITE',
        message: expect.stringMatching(/^element 5 of .* is (NaN|Infinity)$/) as string,
      },
    );
  });

  it('a result that overflows', async () => {
    const huge = await moved('huge', () => 3e38);
    const parameters = { method: 'linear', normalize: false, models: [{ path: huge }, { path: huge }] };
    await refuses('x-7', parameters, {
      code: 'CUPEL_MERGE_NOT_FINITE',
      message: expect.stringContaining('merged, element 0') as string,
    });
  });

  it('too few and too many models, weights that cancel out, a missing base', async () => {
    const input = { code: 'CUPEL_MERGE_INPUT' };
    await refuses('x-8', {}, input);
    await refuses('x-9', { method: 'slerp', models: [{ path: a }, { path: b }] }, input);
    await refuses('x-10', { models: [{ path: a }, { path: b, weight: -1 }] }, input);
    await refuses('x-11', { method: 'ties', models: [{ path: a }] }, input, { base: null });
  });

  it('what is written and would change nothing', async () => {
    const idle = (names: string) => ({
      code: 'CUPEL_MERGE_INPUT',
      message: expect.stringContaining(`makes no use of ${names}`) as string,
    });
    const models = [{ path: a }];
    await refuses('x-30', { models, t: 0.3, lambda: 2, density: 0.5 }, idle('t, lambda, density'));
    await refuses('x-31', { method: 'ties', models, rescale: 'none' }, idle('rescale'));
    await refuses('x-32', { method: 'slerp', models: [{ path: a, weight: 0.5 }] }, idle('the weights of models'));
    await refuses('x-33', { models: [{ path: a, density: 0.5 }] }, idle('the density of models'));
  });

  it('folders that are no checkpoints, quantized ones, and hostile indexes', async () => {
    await refuses('x-12', { models: [{ path: join(folder, 'nowhere') }] }, { code: 'CUPEL_MERGE_CHECKPOINT' });
    const quantized = await changedConfig('quantized', { quantization_config: { bits: 8 } });
    await refuses('x-13', { models: [{ path: quantized }] }, { code: 'CUPEL_MERGE_CHECKPOINT' });
    const hostile = await changedConfig('hostile', {});
    const index = join(hostile, 'model.safetensors.index.json');
    for (const map of [{ a: '../../etc/passwd.safetensors' }, { a: 5 }, {}]) {
      await writeFile(index, JSON.stringify({ weight_map: map }));
      await refuses('x-14', { models: [{ path: hostile }] }, { code: 'CUPEL_SAFETENSORS_INDEX' });
    }
    await writeFile(index, JSON.stringify({ weight_map: { a: 'gone.safetensors' } }));
    await refuses('x-15', { models: [{ path: hostile }] }, { code: 'CUPEL_FILE_MISSING' });
    await rm(index);
    await writeFile(join(hostile, 'model.safetensors'), Buffer.alloc(5));
    await refuses('x-16', { models: [{ path: hostile }] }, { code: 'CUPEL_SAFETENSORS_TRUNCATED' });
  });

  it('adapters of other weights, and those that do more than W + scale · B A', async () => {
    const adapter = join(folder, 'adapter');
    const config = { peft_type: 'LORA', r: 2, lora_alpha: 4, target_modules: ['q_proj'] };
    const module = 'base_model.model.model.layers.0.self_attn.q_proj';
    const write = async (change: object, name = module, rank = 2): Promise<void> => {
      await mkdir(adapter, { recursive: true });
      await writeFile(join(adapter, 'adapter_config.json'), JSON.stringify({ ...config, ...change }));
      const matrix = (part: string, shape: [number, number]) =>
        ({
          name: `${name}.lora_${part}.weight`,
          dtype: 'F32',
          shape,
          data: new Float32Array(shape[0] * shape[1]),
        }) as const;
      await writeSafetensors(join(adapter, 'adapter_model.safetensors'), [
        matrix('A', [2, 64]),
        matrix('B', [64, rank]),
      ]);
    };
    const expected = { code: 'CUPEL_MERGE_ADAPTER' };
    for (const change of [{ use_dora: true }, { bias: 'all' }, { peft_type: 'IA3' }, { lora_alpha: 'x' }]) {
      await write(change);
      await refuses('x-17', { method: 'adapter', adapter }, expected);
    }
    await write({}, 'base_model.model.other');
    await refuses('x-18', { method: 'adapter', adapter }, expected);
    await write({}, module, 3);
    await refuses(
      'x-19',
      { method: 'adapter', adapter },
      { ...expected, message: expect.stringContaining('do not fit') as string },
    );
    await write({});
    await refuses('x-20', { method: 'ties', adapter, models: [{ path: a }] }, { code: 'CUPEL_MERGE_INPUT' });
    await run(job('adapted', { method: 'adapter', adapter }));
    const [own, found] = [base, join(folder, 'adapted')].map((path) => join(path, 'model.safetensors'));
    // B is zero: nothing is added.
    const values = async (file: string | undefined): Promise<string> => {
      const { tensors } = await readSafetensors(file ?? '');
      return sha256(
        [...tensors.values()]
          .map(({ name, data }) => `${name} ${sha256(new Uint8Array(data.buffer))}`)
          .sort()
          .join(),
      );
    };
    expect(await values(found)).toBe(await values(own));
  });

  it('a folder that exists', async () => {
    await expect(run(job('a', { models: [{ path: b }] }))).rejects.toMatchObject({ code: 'CUPEL_MERGE_OUTPUT_EXISTS' });
  });
});
