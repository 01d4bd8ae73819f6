import { readdir } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { ErrorDefinition } from '../../src/kit/index.ts';

export interface ErrorCode extends ErrorDefinition {
  readonly code: string;
  /** Folder that declares it, e.g. `src/store`. */
  readonly room: string;
}

const families = ['src', 'engines', 'judges', 'trainers', 'suites', 'reports'];

/** All coded errors of the tree: every file named errors.ts or ending in -errors.ts declares some. */
export async function collectErrorCodes(root: string): Promise<ErrorCode[]> {
  const codes: ErrorCode[] = [];
  for (const file of await errorFiles(root)) {
    const module = (await import(pathToFileURL(file).href)) as Record<
      string,
      { definitions?: Record<string, ErrorDefinition> }
    >;
    const room = relative(root, file).split(sep).slice(0, -1).join('/');
    for (const exported of Object.values(module)) {
      if (typeof exported !== 'object' || exported.definitions === undefined) continue;
      for (const [code, definition] of Object.entries(exported.definitions)) codes.push({ code, room, ...definition });
    }
  }
  return codes.sort((a, b) => (a.code < b.code ? -1 : 1));
}

/** The text of docs/errors.md. */
export async function renderErrorsDoc(root: string): Promise<string> {
  const rows = (await collectErrorCodes(root)).map(
    ({ code, exit, what, mend, room }) =>
      `### ${code}\n\n${what}\n\n**Mend:** ${mend}\n\nExit code ${exit} · declared in \`${room}\`\n`,
  );
  return `# Errors\n\nMade from the source by \`npm run docs:errors\`; a test holds both together.\nEvery message says what happened, where, and how to mend it. Codes never change their meaning.\n\n${rows.join('\n')}`;
}

async function errorFiles(root: string): Promise<string[]> {
  const found: string[] = [];
  const walk = async (folder: string): Promise<void> => {
    for (const entry of await readdir(folder, { withFileTypes: true })) {
      if (entry.isDirectory()) {
        if (!['target', 'crates', 'node_modules', 'cases'].includes(entry.name)) await walk(join(folder, entry.name));
      } else if (/(^|-)errors\.ts$/.test(entry.name)) found.push(join(folder, entry.name));
    }
  };
  for (const family of families) await walk(join(root, family));
  return found.sort();
}
