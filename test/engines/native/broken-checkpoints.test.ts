import { cp, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import native from '../../../engines/native/index.ts';
import { readSafetensors, writeSafetensors, type CupelError, type Tensor } from '../../../src/kit/index.ts';
import { writeTinyCheckpoint } from '../../support/tiny-checkpoint.ts';

let good: string;
let path: string;

beforeAll(async () => {
  good = await writeTinyCheckpoint();
});
afterAll(() => rm(good, { recursive: true }));

/** The error of opening a copy of a good checkpoint that has been broken. */
async function openBroken(breakIt: () => Promise<void>): Promise<CupelError> {
  path = await mkdtemp(join(tmpdir(), 'cupel-broken-'));
  await cp(good, path, { recursive: true });
  try {
    await breakIt();
    const model = await native.open({ id: 'broken', path }, { threads: 1 });
    await model.close();
  } catch (error) {
    return error as CupelError;
  } finally {
    await rm(path, { recursive: true });
  }
  throw new Error('the broken checkpoint was opened');
}

const file = (name: string): string => join(path, name);

async function editTensors(edit: (tensors: Map<string, Tensor>) => void): Promise<void> {
  const tensors = new Map((await readSafetensors(file('model.safetensors'))).tensors);
  edit(tensors);
  await writeSafetensors(file('model.safetensors'), tensors.values());
}

const editConfig = (changes: Record<string, unknown>) => async (): Promise<void> => {
  const config = JSON.parse(await readFile(file('config.json'), 'utf8')) as Record<string, unknown>;
  await writeFile(file('config.json'), JSON.stringify({ ...config, ...changes }));
};

const q = 'model.layers.1.self_attn.q_proj.weight';

describe('a broken checkpoint is refused by code, file and tensor:', () => {
  it.each<[string, () => Promise<void>, string, RegExp]>([
    [
      'a truncated weight file',
      () => truncate(file('model.safetensors'), 3000),
      'CUPEL_NATIVE_SAFETENSORS_TRUNCATED',
      /model\.safetensors/,
    ],
    [
      'a weight file that is something else',
      () => writeFile(file('model.safetensors'), 'version https://git-lfs'),
      'CUPEL_NATIVE_SAFETENSORS_',
      /model\.safetensors/,
    ],
    ['no weight file', () => rm(file('model.safetensors')), 'CUPEL_NATIVE_', /model\.safetensors/],
    [
      'NaN in a weight',
      () =>
        editTensors((tensors) => {
          const tensor = tensors.get(q) as Tensor;
          tensor.data[5] = NaN;
        }),
      'CUPEL_NATIVE_TENSOR_NONFINITE',
      /q_proj/,
    ],
    [
      'a tensor of another shape',
      () => editTensors((tensors) => tensors.set(q, { ...(tensors.get(q) as Tensor), shape: [64, 16] })),
      'CUPEL_NATIVE_TENSOR_SHAPE',
      /q_proj/,
    ],
    [
      'a missing tensor',
      () => editTensors((tensors) => void tensors.delete(q)),
      'CUPEL_NATIVE_TENSOR_MISSING',
      /q_proj/,
    ],
    [
      'a tensor that nobody reads',
      () =>
        editTensors((tensors) =>
          tensors.set('model.extra', { name: 'model.extra', dtype: 'F32', shape: [1], data: new Float32Array(1) }),
        ),
      'CUPEL_NATIVE_TENSOR_UNKNOWN',
      /model\.extra/,
    ],
    ['an absurd config', editConfig({ hidden_size: 1e12 }), 'CUPEL_NATIVE_CONFIG_INVALID', /config\.json.*hidden_size/],
    ['heads that do not divide', editConfig({ num_attention_heads: 5 }), 'CUPEL_NATIVE_CONFIG_INVALID', /config\.json/],
    [
      'another architecture',
      editConfig({ model_type: 'mamba' }),
      'CUPEL_NATIVE_CONFIG_INVALID',
      /config\.json.*model_type/,
    ],
    [
      'a config that is not JSON',
      () => writeFile(file('config.json'), '{'),
      'CUPEL_NATIVE_CONFIG_INVALID',
      /config\.json/,
    ],
    ['no config', () => rm(file('config.json')), 'CUPEL_NATIVE_', /config\.json/],
    ['no tokenizer', () => rm(file('tokenizer.json')), 'CUPEL_NATIVE_TOKENIZER_MISSING', /tokenizer\.json/],
    [
      'a tokenizer that is not JSON',
      () => writeFile(file('tokenizer.json'), '{"model":'),
      'CUPEL_NATIVE_TOKENIZER_INVALID',
      /tokenizer\.json/,
    ],
    [
      'a tokenizer without a model',
      () => writeFile(file('tokenizer.json'), '{}'),
      'CUPEL_NATIVE_TOKENIZER_INVALID',
      /tokenizer\.json/,
    ],
    [
      'more tokens than embeddings',
      async () => {
        const tokenizer = JSON.parse(await readFile(file('tokenizer.json'), 'utf8')) as {
          model: { vocab: Record<string, number> };
        };
        tokenizer.model.vocab['far'] = 5000;
        await writeFile(file('tokenizer.json'), JSON.stringify(tokenizer));
      },
      'CUPEL_NATIVE_TOKENIZER_MISMATCH',
      /tokenizer\.json/,
    ],
    [
      'an end token outside the vocabulary',
      () => writeFile(file('generation_config.json'), '{"eos_token_id": -3}'),
      'CUPEL_NATIVE_TOKENIZER_INVALID',
      /generation_config\.json/,
    ],
    [
      'a template with a syntax error',
      () => writeFile(file('chat_template.jinja'), 'a\n{% for %}'),
      'CUPEL_NATIVE_TEMPLATE_INVALID',
      /chat_template\.jinja:2/,
    ],
  ])('%s', async (_, breakIt, code, place) => {
    const error = await openBroken(breakIt);
    expect(error.code).toContain(code);
    expect(`${error.where} ${error.message}`).toMatch(place);
    expect(error.exit).toBe(2);
    expect(error.remedy.length).toBeGreaterThan(10);
  });

  it('a folder that is not there', async () => {
    await expect(native.open({ id: 'none', path: join(good, 'none') })).rejects.toMatchObject({
      code: 'CUPEL_NATIVE_IO',
      exit: 2,
    });
  });
});

it('takes no folder for its own that has no weights or another architecture', async () => {
  expect(await native.accepts({ id: 'good', path: good })).toBe(true);
  expect(await native.accepts({ id: 'none', path: join(good, 'none') })).toBe(false);
  expect(await native.accepts({ id: 'tmp', path: tmpdir() })).toBe(false);
});
