import { join } from 'node:path';
import type { PluginKind } from '../contracts/index.ts';
import { codeRoot } from '../kit/index.ts';
import { openRegistry } from '../plugins/registry.ts';
import { listSuites } from '../plugins/suites.ts';

export interface Listing {
  readonly plugins: Readonly<
    Record<PluginKind, readonly { readonly id: string; readonly summary: string; readonly version: string }[]>
  >;
  readonly suites: readonly { readonly id: string; readonly layer: string; readonly title: string }[];
}

/** All plugins and suites that are shipped. */
export async function listAll(): Promise<Listing> {
  const registry = await openRegistry();
  const family = async (kind: PluginKind) =>
    Promise.all(
      (await registry.ids(kind)).map(async (id) => {
        const { summary, version } = await registry.load(kind, id);
        return { id, summary, version };
      }),
    );
  return {
    plugins: {
      engine: await family('engine'),
      judge: await family('judge'),
      trainer: await family('trainer'),
      validator: await family('validator'),
      report: await family('report'),
      exporter: await family('exporter'),
    },
    suites: (await listSuites(join(codeRoot(), 'suites'))).map(({ id, head, error }) => ({
      id,
      layer: head?.layer ?? '?',
      title: head?.title ?? error?.message ?? '',
    })),
  };
}
