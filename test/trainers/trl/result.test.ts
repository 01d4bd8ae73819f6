import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import type { Learner, TrainingRecord, TrainJob } from '../../../src/contracts/index.ts';
import { encodeSafetensors, readSafetensors, type Tensor } from '../../../src/kit/index.ts';
import { readTrlJob, type TrlJob } from '../../../trainers/trl/parameters.ts';
import { emptyPartial, takeResult } from '../../../trainers/trl/result.ts';
import { root } from '../../lib/cli.ts';

const base = join(root, 'fixtures/reference/e2e');
const rows = [{ id: 'r', sequences: [{ tokens: [1, 5, 6], labels: [0, 1, 1], promptLength: 1 }] }];
const record = { version: 1, trainer: 'trl-sft@1.0.0' } as unknown as TrainingRecord;
const probe = { row: 0, logProbability: -3, tokens: 2 };
const original = await readSafetensors(join(base, 'model.safetensors'));
const saved = new Map([...original.tensors.values()].map((tensor) => [tensor.name, tensor]));

let output: string;
let partial: string;
beforeEach(async () => {
  const folder = mkdtempSync(join(tmpdir(), 'cupel-trl-result-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  output = join(folder, 'out');
  partial = await emptyPartial(output);
});

/** A learner that scores every token alike stands for the engine: what is tested is what is made of its figures. */
function jobOf(
  parameters: Readonly<Record<string, unknown>>,
  score = -1.5,
): [Parameters<typeof takeResult>[0], TrlJob] {
  const learner = {
    logProbabilities: () => Promise.resolve(Float64Array.of(score, score)),
    close: () => Promise.resolve(),
  } as unknown as Learner;
  const job = {
    id: 'job',
    parameters: { dtype: 'f32', ...parameters },
    replay: null,
    validation: null,
    base: { id: 'base', path: base },
    output,
    openSaved: () => Promise.resolve(learner),
  } as unknown as TrainJob & { readonly base: NonNullable<TrainJob['base']> };
  return [job, readTrlJob(job)];
}

function saveModel(change: (tensors: Map<string, Tensor>) => void = () => {}): void {
  const tensors = new Map(saved);
  change(tensors);
  writeFileSync(join(partial, 'model.safetensors'), encodeSafetensors([...tensors.values()]));
  writeFileSync(join(partial, 'config.json'), '{"_name_or_path": "/home/somebody"}');
}

const take = (job: ReturnType<typeof jobOf>, probes = [probe]): Promise<void> =>
  takeResult(job[0], job[1], rows, probes, record, partial);

describe('what TRL wrote', () => {
  it('gets its name when tensors and score are right, with config and tokenizer of the base', async () => {
    saveModel();
    await take(jobOf({}));
    expect(existsSync(partial)).toBe(false);
    const config = readFileSync(join(output, 'config.json'), 'utf8');
    expect(config).not.toContain('/home');
    expect(JSON.parse(config)).toMatchObject({ dtype: 'float32' });
    expect(readFileSync(join(output, 'tokenizer.json'))).toEqual(readFileSync(join(base, 'tokenizer.json')));
    expect(JSON.parse(readFileSync(join(output, 'cupel_run.json'), 'utf8'))).toEqual(record);
  });

  const [first = ''] = saved.keys();
  it.each<[string, (tensors: Map<string, Tensor>) => void, string]>([
    ['a tensor is missing', (tensors) => void tensors.delete(first), 'is missing'],
    [
      'a tensor has another shape',
      (tensors) => {
        const { data } = tensors.get(first) as Tensor;
        tensors.set(first, { ...(tensors.get(first) as Tensor), shape: [data.length], data });
      },
      'has shape',
    ],
    [
      'a weight is not finite',
      (tensors) => {
        const { shape, data } = tensors.get(first) as Tensor;
        tensors.set(first, {
          ...(tensors.get(first) as Tensor),
          shape,
          data: data.map((value, index) => (index === 3 ? Number.NaN : value)),
        });
      },
      'value 3 of tensor',
    ],
    [
      'a tensor is not of the base',
      (tensors) => void tensors.set('stray', { name: 'stray', dtype: 'F32', shape: [1], data: Float32Array.of(1) }),
      'tensor stray is not in the base',
    ],
  ])('is refused where %s', async (_, change, message) => {
    saveModel(change);
    await expect(take(jobOf({}))).rejects.toMatchObject({
      code: 'CUPEL_TRL_RESULT',
      message: expect.stringContaining(message) as string,
    });
    expect(existsSync(output)).toBe(false);
  });

  it('is refused where it scores otherwise, or nothing was scored', async () => {
    saveModel();
    await expect(take(jobOf({}, -1.6))).rejects.toMatchObject({ code: 'CUPEL_TRL_RESULT' });
    await expect(take(jobOf({}), [])).rejects.toMatchObject({
      code: 'CUPEL_TRL_RESULT',
      message: expect.stringContaining('scored no row') as string,
    });
    await expect(take(jobOf({}), [{ ...probe, row: 7 }])).rejects.toThrow('row 7');
    await expect(take(jobOf({}, Number.NaN))).rejects.toMatchObject({ code: 'CUPEL_TRL_RESULT' });
  });

  it('may score by some hundredths otherwise where the child computed in bf16', async () => {
    saveModel();
    await take(jobOf({ compute: 'bf16' }, -1.55));
    expect(existsSync(output)).toBe(true);
  });
});

describe('an adapter that PEFT wrote', () => {
  const tuning = { kind: 'lora', rank: 2, alpha: 4, save: 'adapter', targets: ['v_proj', 'q_proj'] };
  const save = (skip = ''): void => {
    const tensors = new Map<string, Tensor>();
    for (const [name, { shape }] of saved) {
      if (!/\.(q|v)_proj\.weight$/.test(name)) continue;
      const module = `base_model.model.${name.replace('.weight', '')}`;
      const [outputs = 0, inputs = 0] = shape;
      tensors.set(`${module}.lora_A.weight`, {
        name: `${module}.lora_A.weight`,
        dtype: 'F32',
        shape: [2, inputs],
        data: new Float32Array(2 * inputs),
      });
      tensors.set(`${module}.lora_B.weight`, {
        name: `${module}.lora_B.weight`,
        dtype: 'F32',
        shape: [outputs, 2],
        data: new Float32Array(2 * outputs),
      });
    }
    const left = [...tensors.keys()].find((name) => skip !== '' && name.endsWith(skip));
    if (left !== undefined) tensors.delete(left);
    writeFileSync(join(partial, 'adapter_model.safetensors'), encodeSafetensors([...tensors.values()]));
    const config = {
      r: 2,
      lora_alpha: 4,
      base_model_name_or_path: '/home/somebody/base',
      target_modules: ['v_proj', 'q_proj'],
    };
    writeFileSync(join(partial, 'adapter_config.json'), JSON.stringify(config));
  };

  it('loses the path of the base, and the order of a hash table', async () => {
    save();
    await take(jobOf({ tuning }));
    expect(JSON.parse(readFileSync(join(output, 'adapter_config.json'), 'utf8'))).toEqual({
      r: 2,
      lora_alpha: 4,
      base_model_name_or_path: null,
      target_modules: ['q_proj', 'v_proj'],
    });
  });

  it('is refused where a matrix of a projection is missing', async () => {
    save('lora_B.weight');
    await expect(take(jobOf({ tuning }))).rejects.toMatchObject({
      code: 'CUPEL_TRL_RESULT',
      message: expect.stringContaining('lacks base_model.model.') as string,
    });
  });
});
