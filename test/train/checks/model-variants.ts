import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Model } from '../../../src/contracts/index.ts';
import native from '../../../engines/native/index.ts';
import { packageRoot } from '../../../src/kit/index.ts';

const reference = join(packageRoot(), 'fixtures/reference/e2e');

export interface Variant {
  readonly template?: (template: string) => string;
  /** Fields of tokenizer_config.json. */
  readonly tokenizerConfig?: Readonly<Record<string, unknown>>;
  /** Special tokens that are added to the vocabulary, from id 259 on. */
  readonly specialTokens?: readonly string[];
  readonly config?: Readonly<Record<string, unknown>>;
}

/** The tiny reference checkpoint, opened by the native engine, with what a person might have done to it. */
export async function openVariant(folder: string, variant: Variant): Promise<Model> {
  await rm(folder, { recursive: true, force: true });
  for (const file of [
    'config.json',
    'tokenizer.json',
    'tokenizer_config.json',
    'chat_template.jinja',
    'model.safetensors',
  ])
    await cp(join(reference, file), join(folder, file));
  const patch = async (file: string, change: (value: Record<string, unknown>) => object): Promise<void> => {
    const value = JSON.parse(await readFile(join(folder, file), 'utf8')) as Record<string, unknown>;
    await writeFile(join(folder, file), JSON.stringify(change(value)));
  };
  const { template, tokenizerConfig = {}, specialTokens = [], config = {} } = variant;
  if (template !== undefined) {
    const file = join(folder, 'chat_template.jinja');
    await writeFile(file, template(await readFile(file, 'utf8')));
  }
  await patch('tokenizer_config.json', (value) => ({ ...value, ...tokenizerConfig }));
  await patch('config.json', (value) => ({ ...value, ...config }));
  await patch('tokenizer.json', (value) => ({
    ...value,
    added_tokens: [
      ...(value['added_tokens'] as object[]),
      ...specialTokens.map((content, index) => ({
        ...(value['added_tokens'] as object[])[0],
        id: 259 + index,
        content,
      })),
    ],
  }));
  return native.open({ id: 'variant', path: folder }, { threads: 1 });
}
