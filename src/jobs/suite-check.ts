import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { codeRoot, formatError, isCupelError } from '../kit/index.ts';
import { playEpisodes, scripted } from '../agent/index.ts';
import { openRegistry } from '../plugins/registry.ts';
import { checkSuite } from '../plugins/suite-check.ts';
import { loadSuite } from '../plugins/suites.ts';

export interface SuiteCheckResult {
  readonly suite: string;
  readonly cases: number;
  readonly examples: number;
  /** One line each; empty when the suite holds. */
  readonly problems: readonly string[];
  readonly warnings: readonly string[];
}

/** Checks suites by id or folder, all splits, without a model: schema, validators, sample outputs, duplicates. */
export async function checkSuites(names: readonly string[]): Promise<readonly SuiteCheckResult[]> {
  const registry = await openRegistry();
  return Promise.all(
    names.map(async (name): Promise<SuiteCheckResult> => {
      const shipped = join(codeRoot(), 'suites', name);
      const folder = /^[a-z0-9][a-z0-9-]*$/.test(name) && existsSync(shipped) ? shipped : resolve(name);
      try {
        const { problems, cases, examples } = await checkSuite(await loadSuite(folder), {
          validator: (id) => registry.load('validator', id),
          play: async (suite, item, script) => {
            for await (const { output, error } of playEpisodes(suite, [item], scripted(new Map([[item.id, script]])))) {
              if (output !== null) return output;
              return { text: error?.message ?? '' };
            }
            return { text: '' };
          },
        });
        const lines = (severity: string): string[] =>
          problems
            .filter((problem) => problem.severity === severity)
            .map(({ where, message }) => `${where}: ${message}`);
        return { suite: name, cases, examples, problems: lines('error'), warnings: lines('warning') };
      } catch (error) {
        if (!isCupelError(error)) throw error;
        return { suite: name, cases: 0, examples: 0, problems: [formatError(error)], warnings: [] };
      }
    }),
  );
}
