import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { buildNative, cargoMissing, isStale, libraryName } from '../../../scripts/build-native.mjs';
import { nativeErrors } from '../../../engines/native/errors.ts';

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'cupel-build-'));
  mkdirSync(join(root, 'engines/native'), { recursive: true });
});
afterEach(() => rmSync(root, { recursive: true }));

/** A program in cargo's place that writes a library, or fails. */
function fakeCargo(script: string): string {
  const file = join(root, 'cargo');
  writeFileSync(file, `#!/bin/sh\nif [ "$1" = --version ]; then exit 0; fi\n${script}\n`);
  chmodSync(file, 0o755);
  return file;
}

const succeed = `mkdir -p target/release; echo library > target/release/${libraryName(process.platform)}`;

describe('building the native engine', () => {
  it('says in one coded message how to get cargo where there is none', () => {
    const result = buildNative({ root, cargo: join(root, 'no-cargo') });
    expect(result).toEqual({ status: 2, placed: [], message: cargoMissing() });
    expect(cargoMissing()).toMatch(/^CUPEL_NATIVE_CARGO_MISSING: .*\n {2}at: .*\n {2}mend: .*rustup/);
    expect(nativeErrors.definitions.CUPEL_NATIVE_CARGO_MISSING.exit).toBe(result.status);
  });

  it('puts the addon beside the sources, and into dist where that has been built, and copies nothing twice', () => {
    const cargo = fakeCargo(
      succeed.replace('echo', 'test -e target/release/done || echo') + '; touch target/release/done',
    );
    const source = join(root, 'engines/native/cupel-native.node');
    const built = join(root, 'dist/engines/native/cupel-native.node');
    expect(buildNative({ root, cargo, environment: { PATH: process.env['PATH'] } })).toMatchObject({
      status: 0,
      placed: [source],
    });
    expect(readFileSync(source, 'utf8')).toBe('library\n');
    expect(existsSync(built)).toBe(false);
    mkdirSync(join(root, 'dist'));
    expect(buildNative({ root, cargo, environment: { PATH: process.env['PATH'] } })).toMatchObject({
      status: 0,
      placed: [built],
    });
    expect(buildNative({ root, cargo, environment: { PATH: process.env['PATH'] } })).toMatchObject({
      status: 0,
      placed: [],
    });
  });

  it('passes a failed build on', () => {
    const result = buildNative({ root, cargo: fakeCargo('exit 101'), environment: { PATH: process.env['PATH'] } });
    expect(result).toMatchObject({
      status: 70,
      message: expect.stringMatching(/^CUPEL_NATIVE_BUILD_FAILED: cargo build ended with 101/),
    });
  });

  it('takes a copy for stale that is missing, of another size, or older', () => {
    const [a, b] = [join(root, 'a'), join(root, 'b')];
    writeFileSync(a, '123');
    expect(isStale(a, b)).toBe(true);
    writeFileSync(b, '456');
    expect(isStale(a, b)).toBe(false);
    utimesSync(b, 1000, 1000);
    expect(isStale(a, b)).toBe(true);
    writeFileSync(b, '1234');
    expect(isStale(a, b)).toBe(true);
  });
});
