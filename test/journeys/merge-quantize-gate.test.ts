import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Random, digestFolder, writeSafetensors } from '../../src/kit/index.ts';
import { cupel } from '../lib/cli.ts';
import { basePath, smallProject } from '../lib/project.ts';

/** A PEFT folder over the tiny base: small random factors on the queries of every layer. */
async function writeAdapter(folder: string): Promise<void> {
  mkdirSync(folder);
  const config = { peft_type: 'LORA', task_type: 'CAUSAL_LM', r: 2, lora_alpha: 4, target_modules: ['q_proj'] };
  writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify(config));
  const random = new Random(4, 'adapter');
  const tensors = [0, 1, 2, 3].flatMap((layer) =>
    (
      [
        ['A', [2, 128]],
        ['B', [128, 2]],
      ] as const
    ).map(([part, shape]) => ({
      name: `base_model.model.model.layers.${layer}.self_attn.q_proj.lora_${part}.weight`,
      dtype: 'F32' as const,
      shape,
      data: Float32Array.from({ length: 256 }, () => 0.05 * random.normal()),
    })),
  );
  await writeSafetensors(join(folder, 'adapter_model.safetensors'), tensors);
}

test('an adapter is merged, quantized, and the very file that ships is gated', { timeout: 120_000 }, async () => {
  const project = smallProject();
  const at = (name: string): string => join(project.folder, name);
  await writeAdapter(at('lora'));
  const ok = (...args: string[]): string => {
    const { status, stdout, stderr } = cupel(args, { cwd: project.folder, timeout: 100_000 });
    expect([args[0], status, status === 0 ? '' : stderr]).toEqual([args[0], 0, '']);
    return stdout;
  };
  ok('merge-models', '--method', 'adapter', '--base', basePath, '--adapter', 'lora', '-o', 'merged');
  ok('quantize', 'merged', '-o', 'shipped.gguf', '--type', 'q8_0', '--pre', 'gpt-2');
  for (const checkpoint of ['base', at('shipped.gguf')])
    ok('run', './triage', '--checkpoint', checkpoint, '-c', project.config);
  ok('adopt', 'base', '-c', project.config);
  const { status, stdout, stderr } = cupel(['gate', at('shipped.gguf'), '-c', project.config, '--json'], {
    cwd: project.folder,
  });
  // Noise on the queries makes no better model: what the verdict is about is the file, and it is not promoted.
  expect([1, 3]).toContain(status);
  expect(stderr).not.toContain('CUPEL_');
  expect(stdout).toContain(await digestFolder(at('shipped.gguf')));
  expect(JSON.parse(readFileSync(at('merged/cupel_run.json'), 'utf8'))).toMatchObject({
    parent: await digestFolder(basePath),
    merge: { parents: [{ name: 'lora', digest: await digestFolder(at('lora')) }] },
  });
});
