import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { isCupelError, packageRoot } from '../kit/index.ts';
import { openRegistry } from '../plugins/registry.ts';

export interface Finding {
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
}

/** Looks at what this machine has. Changes nothing. */
export async function examine(): Promise<readonly Finding[]> {
  const registry = await openRegistry();
  const base = { id: 'base', path: join(packageRoot(), 'fixtures', 'base') };
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const engines = await Promise.all(
    (await registry.ids('engine')).map(async (id): Promise<Finding> => {
      try {
        const engine = await registry.load('engine', id);
        if (!(await engine.accepts(base)))
          return { name: `engine ${id}`, ok: true, detail: `${engine.version}, loads` };
        const model = await engine.open(base);
        const detail = `${model.engine} opens the tiny base (${model.vocabularySize} tokens, context ${model.contextLength})`;
        await model.close();
        return { name: `engine ${id}`, ok: true, detail };
      } catch (error) {
        return {
          name: `engine ${id}`,
          ok: false,
          detail: isCupelError(error) ? `${error.code}: ${error.message}. ${error.remedy}` : String(error),
        };
      }
    }),
  );
  return [
    {
      name: 'Node',
      ok: major > 20 || (major === 20 && minor >= 19),
      detail: `${process.versions.node} (20.19 or newer; 22 or 24 recommended)`,
    },
    { name: 'tiny base', ok: existsSync(join(base.path, 'model.safetensors')), detail: 'fixtures/base' },
    ...engines,
  ];
}
