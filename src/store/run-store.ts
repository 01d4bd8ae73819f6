import { mkdir, readdir, readFile, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import type { Row, RunIdentity, RunStore, RunWriter } from '../contracts/index.ts';
import { canonicalJson, runId, writeFileAtomic } from '../kit/index.ts';
import { AppendFile } from './append-file.ts';
import { formatCheckedLine, parseCheckedLines } from './checked-lines.ts';
import { storeErrors } from './errors.ts';
import { acquireLock, type Lock } from './lock.ts';
import { rowKey, runDigest, sortRows } from './rows.ts';

/** A writer that also tells how many torn lines earlier attempts left behind. */
export interface StoredRunWriter extends RunWriter {
  readonly torn: number;
}

export interface StoredRunStore extends RunStore {
  begin(identity: RunIdentity): Promise<StoredRunWriter>;
}

interface Manifest {
  readonly format: 'cupel-run';
  readonly version: 1;
  readonly identity: RunIdentity;
  readonly complete: boolean;
  /** Set with `complete`: number of rows and digest of the run. */
  readonly rows?: number;
  readonly digest?: string;
}

/** Rows are flushed to the disk in groups of this many: a power cut can cost them, a killed process cannot. */
const syncEvery = 100;

/**
 * Runs below `<directory>/runs/<id>/`: `manifest.json`, and one `rows-<n>.jsonl` for each time the run was opened.
 * One writer at a time, held by a lock; readers need none.
 * @throws CUPEL_STORE_LOCKED, _LINE_CORRUPT (file:line), _MANIFEST_INVALID, _RUN_MISSING, _ROW_CONFLICT, _WRITE_FAILED
 */
export function openRunStore(directory: string): StoredRunStore {
  const folderOf = (id: string): string => join(directory, 'runs', id);

  return {
    async begin(identity) {
      const folder = folderOf(identity.id);
      checkIdentity(identity, folder);
      try {
        await mkdir(folder, { recursive: true });
      } catch (cause) {
        throw storeErrors.CUPEL_STORE_WRITE_FAILED({ message: (cause as Error).message, where: folder, cause });
      }
      const lock = await acquireLock(join(folder, 'writer'));
      try {
        const known = await readManifest(folder);
        if (known !== null && canonicalJson(known.identity) !== canonicalJson(identity))
          throw invalid(folder, 'it has another identity under the same id');
        if (known === null) await writeManifest(folder, { format: 'cupel-run', version: 1, identity, complete: false });
        const stored = await readRows(folder, true);
        if (known?.complete === true) checkComplete(known, stored.rows, folder);
        return makeWriter(identity, folder, stored, known?.complete === true, lock);
      } catch (error) {
        await lock.release();
        throw error;
      }
    },

    async read(id) {
      const folder = folderOf(id);
      const manifest = /^[0-9a-f]{16}$/.test(id) ? await readManifest(folder) : null;
      if (manifest === null)
        throw storeErrors.CUPEL_STORE_RUN_MISSING({ message: `there is no run ${JSON.stringify(id)}`, where: folder });
      checkIdentity(manifest.identity, folder, id);
      const { rows } = await readRows(folder, false);
      if (manifest.complete) checkComplete(manifest, rows, folder);
      return { identity: manifest.identity, complete: manifest.complete, rows: sortRows(rows) };
    },

    async list() {
      const names = await readdir(join(directory, 'runs')).catch(() => []);
      const found: { identity: RunIdentity; complete: boolean }[] = [];
      for (const name of names.filter((candidate) => /^[0-9a-f]{16}$/.test(candidate)).sort()) {
        // A folder without manifest is a run that was killed before its first row.
        const manifest = await readManifest(folderOf(name));
        if (manifest !== null) found.push({ identity: manifest.identity, complete: manifest.complete });
      }
      return found;
    },
  };
}

function makeWriter(
  identity: RunIdentity,
  folder: string,
  stored: StoredRows,
  wasComplete: boolean,
  lock: Lock,
): StoredRunWriter {
  const done = new Map(stored.rows.map((row) => [rowKey(row), row]));
  const file = new AppendFile(join(folder, `rows-${String(stored.segments + 1).padStart(4, '0')}.jsonl`));
  let complete = wasComplete;
  let closed = false;
  return {
    done,
    torn: stored.torn,
    get complete() {
      return complete;
    },
    async append(row) {
      const problem =
        closed || complete
          ? 'the run is closed'
          : done.has(rowKey(row))
            ? 'it has a row already'
            : row.suite !== identity.suite.id || row.split !== identity.split
              ? `the row is of ${row.suite}/${row.split}`
              : null;
      if (problem !== null)
        throw storeErrors.CUPEL_STORE_ROW_CONFLICT({ message: `${rowKey(row)}: ${problem}`, where: folder });
      done.set(rowKey(row), row);
      await file.append(formatCheckedLine(row), syncEvery);
    },
    async finish() {
      if (complete) return;
      await file.sync();
      const rows = [...done.values()];
      await writeManifest(folder, {
        format: 'cupel-run',
        version: 1,
        identity,
        complete: true,
        rows: rows.length,
        digest: runDigest({ identity, rows }),
      });
      complete = true;
    },
    async close() {
      if (closed) return;
      closed = true;
      try {
        await file.close();
      } finally {
        await lock.release();
      }
    },
  };
}

interface StoredRows {
  readonly rows: readonly Row[];
  readonly torn: number;
  readonly segments: number;
}

async function readRows(folder: string, mend: boolean): Promise<StoredRows> {
  const names = (await readdir(folder)).filter((name) => /^rows-\d+\.jsonl$/.test(name)).sort();
  const rows = new Map<string, Row>();
  let torn = 0;
  for (const name of names) {
    const path = join(folder, name);
    const lines = parseCheckedLines(await readFile(path), path);
    // Only the holder of the lock may cut: for a reader, a part of a line can be a row that is being written.
    if (lines.torn > 0 && mend) await truncate(path, lines.validBytes);
    torn += lines.torn;
    for (const [index, value] of lines.values.entries()) {
      const row = value as Row;
      if (rows.has(rowKey(row))) {
        throw storeErrors.CUPEL_STORE_LINE_CORRUPT({
          message: `a second row for ${rowKey(row)}`,
          where: `${path}:${index + 1}`,
        });
      }
      rows.set(rowKey(row), row);
    }
  }
  const last = names.at(-1);
  return {
    rows: [...rows.values()],
    torn,
    segments: last === undefined ? 0 : Number(last.slice('rows-'.length, -'.jsonl'.length)),
  };
}

async function readManifest(folder: string): Promise<Manifest | null> {
  const path = join(folder, 'manifest.json');
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw invalid(folder, `it could not be read: ${(cause as Error).message}`);
  }
  let manifest: Partial<Manifest> | null;
  try {
    manifest = JSON.parse(text) as Partial<Manifest> | null;
  } catch (cause) {
    throw invalid(folder, `it is not JSON: ${(cause as Error).message}`);
  }
  if (manifest?.format !== 'cupel-run' || typeof manifest.identity !== 'object' || manifest.identity === null)
    throw invalid(folder, 'it is not the manifest of a run');
  if (manifest.version !== 1) {
    throw storeErrors.CUPEL_STORE_VERSION_UNKNOWN({
      message: `version ${JSON.stringify(manifest.version)}; known is 1`,
      where: path,
    });
  }
  return manifest as Manifest;
}

function writeManifest(folder: string, manifest: Manifest): Promise<void> {
  return writeFileAtomic(join(folder, 'manifest.json'), `${canonicalJson(manifest)}\n`);
}

function checkIdentity(identity: RunIdentity, folder: string, id = identity.id): void {
  const expected = runId(identity);
  if (identity.id !== expected || id !== expected)
    throw invalid(folder, `the id is ${id}, its identity gives ${expected}`);
}

function checkComplete(manifest: Manifest, rows: readonly Row[], folder: string): void {
  if (manifest.rows !== rows.length) throw invalid(folder, `it says ${manifest.rows} rows, ${rows.length} are there`);
  const digest = runDigest({ identity: manifest.identity, rows });
  if (manifest.digest !== digest) throw invalid(folder, `it says ${manifest.digest}, the rows give ${digest}`);
}

function invalid(folder: string, message: string): Error {
  return storeErrors.CUPEL_STORE_MANIFEST_INVALID({ message, where: join(folder, 'manifest.json') });
}
