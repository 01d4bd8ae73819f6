import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { EnvironmentOptions } from '../contracts/index.ts';
import { isCupelError, packageRoot } from '../kit/index.ts';
import { openRegistry } from '../plugins/registry.ts';
import { jobErrors } from './errors.ts';

export interface Finding {
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
}

/**
 * Looks at what this machine has. Changes nothing.
 * @param store absolute path of the project's store, where environments of trainers lie
 */
export async function examine(store: string): Promise<readonly Finding[]> {
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
    ...(await environments(store)),
  ];
}

/** Trainers that run on software of their own. That it is not set up is no fault: nothing else needs it. */
async function environments(store: string): Promise<readonly Finding[]> {
  const registry = await openRegistry();
  const trainers = await Promise.all(
    (await registry.ids('trainer')).map(async (id) => ({ id, trainer: await registry.load('trainer', id) })),
  );
  const findings: Finding[] = [];
  for (const { id, trainer } of trainers) {
    if (trainer.environment === undefined) continue;
    const { state, detail } = await trainer.environment.state(join(store, 'environments'));
    findings.push({ name: `trainer ${id}`, ok: state !== 'untested', detail });
  }
  return findings;
}

/**
 * Makes what a trainer runs on, and proves it by the trainer's self-test.
 * @throws CUPEL_TRAINER_NEEDS_NOTHING where the trainer runs on nothing of its own
 */
export async function setUpTrainer(store: string, id: string, options: EnvironmentOptions): Promise<Finding> {
  const trainer = await (await openRegistry()).load('trainer', id);
  if (trainer.environment === undefined) {
    throw jobErrors.CUPEL_TRAINER_NEEDS_NOTHING({ message: `trainer "${id}" needs nothing beside this package` });
  }
  const { state, detail } = await trainer.environment.setUp(join(store, 'environments'), options);
  return { name: `trainer ${id}`, ok: state === 'ready', detail };
}
