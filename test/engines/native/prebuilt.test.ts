import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { prebuiltAddon, prebuiltName } from '../../../engines/native/prebuilt.ts';
import { buildNative, cargoMissing } from '../../../scripts/build-native.mjs';
import {
  currentPlatform,
  installedPrebuilt,
  mainManifest,
  packageName,
  packPrebuilt,
  platforms,
} from '../../../scripts/prebuilt.mjs';

const repository = join(import.meta.dirname, '../../..');
let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'cupel-prebuilt-'));
  writeFileSync(
    join(root, 'package.json'),
    JSON.stringify({
      name: 'cupel',
      version: '1.2.3',
      license: 'Apache-2.0',
      engines: { node: '>=20' },
      files: ['dist'],
      scripts: { prepare: 'node scripts/prepare.mjs', cupel: 'node dist/main.js' },
      devDependencies: { typescript: '1' },
    }),
  );
  writeFileSync(join(root, 'LICENSE'), 'licence');
  writeFileSync(join(root, 'addon.node'), 'addon');
});
afterEach(() => rmSync(root, { recursive: true }));

const here = currentPlatform() as string;

/** Packs the addon and puts the package where npm would. */
function install(version?: string): void {
  const folder = packPrebuilt({
    root,
    out: join(root, 'node_modules'),
    platform: here,
    addon: join(root, 'addon.node'),
  });
  const target = join(root, 'node_modules', packageName(here));
  mkdirSync(target, { recursive: true });
  for (const name of ['package.json', `cupel-native.${here}.node`])
    writeFileSync(join(target, name), readFileSync(join(folder, name)));
  if (version === undefined) return;
  const manifest = JSON.parse(readFileSync(join(target, 'package.json'), 'utf8')) as object;
  writeFileSync(join(target, 'package.json'), JSON.stringify({ ...manifest, version }));
}

describe('packages with the compiled engine', () => {
  it('name platform, licence, version and file as npm and Node want them', () => {
    const folder = packPrebuilt({
      root,
      out: join(root, 'npm'),
      platform: 'linux-x64-musl',
      addon: join(root, 'addon.node'),
    });
    expect(JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))).toEqual({
      name: 'cupel-native-linux-x64-musl',
      version: '1.2.3',
      description: 'The compiled native engine of cupel for linux-x64-musl',
      license: 'Apache-2.0',
      main: 'cupel-native.linux-x64-musl.node',
      files: ['cupel-native.linux-x64-musl.node', 'NOTICE'],
      engines: { node: '>=20' },
      os: ['linux'],
      cpu: ['x64'],
      libc: ['musl'],
    });
    expect(readFileSync(join(folder, 'cupel-native.linux-x64-musl.node'), 'utf8')).toBe('addon');
    expect(readFileSync(join(folder, 'LICENSE'), 'utf8')).toBe('licence');
  });

  it('are optional dependencies of a main package that compiles nothing', () => {
    const out = join(root, 'npm');
    for (const platform of ['linux-x64-gnu', 'darwin-arm64'])
      packPrebuilt({ root, out, platform, addon: join(root, 'addon.node') });
    const manifest = mainManifest({ root, out });
    expect(manifest).toMatchObject({
      files: ['dist', '!dist/**/*.node'],
      scripts: { cupel: 'node dist/main.js' },
      optionalDependencies: { 'cupel-native-linux-x64-gnu': '1.2.3', 'cupel-native-darwin-arm64': '1.2.3' },
    });
    expect(manifest.scripts).not.toHaveProperty('prepare');
    expect(manifest).not.toHaveProperty('devDependencies');
  });

  it('are called the same by the script that packs them and by the engine that loads them', () => {
    for (const [platform, { os, cpu, libc }] of Object.entries(
      platforms as Record<string, { os: string; cpu: string; libc?: string }>,
    )) {
      expect(prebuiltName(os, cpu, libc ?? null)).toBe(packageName(platform));
      expect(currentPlatform({ os, cpu, libc: libc ?? null })).toBe(platform);
    }
    expect(prebuiltName()).toBe(packageName(here));
    expect(prebuiltName('sunos', 'sparc', null)).toBeNull();
    expect(currentPlatform({ os: 'sunos', cpu: 'sparc', libc: null })).toBeNull();
  });

  it('are found by the engine in its own version, and only then', () => {
    const { resolve } = createRequire(join(root, 'index.js'));
    expect(prebuiltAddon(resolve, '1.2.3')).toBeNull();
    install();
    const found = prebuiltAddon(resolve, '1.2.3');
    expect(found !== null && readFileSync(found, 'utf8')).toBe('addon');
    expect(prebuiltAddon(resolve, '1.2.4')).toBeNull();
    expect(prebuiltAddon(resolve, '1.2.3', null)).toBeNull();
    rmSync(found as string);
    expect(prebuiltAddon(resolve, '1.2.3')).toBeNull();
  });
});

describe('installing without cargo', () => {
  const cargo = join(tmpdir(), 'no-such-cargo');

  it('is well with the prebuilt package of this version', () => {
    install();
    expect(installedPrebuilt({ root })).toEqual({ name: packageName(here), version: '1.2.3' });
    const result = buildNative({ root, cargo });
    expect(result).toMatchObject({ status: 0, placed: [] });
    expect(result.message).toContain(`${packageName(here)}@1.2.3`);
  });

  it('ends with code 2 and a remedy with none, or with that of another version', () => {
    expect(buildNative({ root, cargo })).toEqual({ status: 2, placed: [], message: cargoMissing() });
    install('1.2.2');
    expect(buildNative({ root, cargo })).toEqual({ status: 2, placed: [], message: cargoMissing() });
    expect(cargoMissing()).toContain(packageName(here));
  });
});

it('the script packs what was built here, and says what is missing', () => {
  const run = (...given: string[]) =>
    spawnSync(process.execPath, [join(repository, 'scripts/prebuilt.mjs'), '--out', join(root, 'out'), ...given], {
      encoding: 'utf8',
    });
  const packed = run('--addon', join(root, 'addon.node'), '--manifest');
  expect(packed.status).toBe(0);
  expect(existsSync(join(root, 'out', here, `cupel-native.${here}.node`))).toBe(true);
  expect(JSON.parse(readFileSync(join(root, 'out/package.json'), 'utf8'))).toMatchObject({
    name: 'cupel',
    optionalDependencies: { [packageName(here)]: expect.any(String) },
  });
  expect(run('--addon', join(root, 'none.node'))).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('npm run prepare'),
  });
  expect(run('--platform', 'vax')).toMatchObject({ status: 2, stderr: expect.stringContaining('linux-x64-gnu') });
});
