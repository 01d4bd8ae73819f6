// Packs the compiled addon as an npm package of its platform, by the convention of napi-rs: one package a platform with
// `os`, `cpu` and `libc`, which the main package names as an optional dependency. Run it where the addon was built.
//
//   node scripts/prebuilt.mjs [--out <folder>] [--platform <name>] [--addon <file>] [--manifest]
//
// --manifest also writes package.json of the main package with the optional dependencies of all packages in the folder.
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

/** Platforms by the names of napi-rs. */
export const platforms = {
  'linux-x64-gnu': { os: 'linux', cpu: 'x64', libc: 'glibc' },
  'linux-x64-musl': { os: 'linux', cpu: 'x64', libc: 'musl' },
  'linux-arm64-gnu': { os: 'linux', cpu: 'arm64', libc: 'glibc' },
  'linux-arm64-musl': { os: 'linux', cpu: 'arm64', libc: 'musl' },
  'darwin-x64': { os: 'darwin', cpu: 'x64' },
  'darwin-arm64': { os: 'darwin', cpu: 'arm64' },
  'win32-x64-msvc': { os: 'win32', cpu: 'x64' },
};

/** Name of the npm package of a platform. */
export function packageName(platform) {
  return `cupel-native-${platform}`;
}

/** The platform that this Node runs on; null where no package is made for it. */
export function currentPlatform({ os = process.platform, cpu = process.arch, libc = libraryOfC() } = {}) {
  const found = Object.entries(platforms).find(
    ([, of]) => of.os === os && of.cpu === cpu && (of.libc === undefined || of.libc === libc),
  );
  return found === undefined ? null : found[0];
}

/** `glibc` or `musl`; null elsewhere than on Linux. */
export function libraryOfC() {
  if (process.platform !== 'linux') return null;
  const loaders = existsSync('/lib') ? readdirSync('/lib') : [];
  return process.report?.getReport().header.glibcVersionRuntime === undefined &&
    loaders.some((name) => name.startsWith('ld-musl-'))
    ? 'musl'
    : 'glibc';
}

/**
 * Writes the package of a platform to `<out>/<platform>`.
 * @returns {string} its folder
 */
export function packPrebuilt({ root, out, platform, addon }) {
  const { os, cpu, libc } = platforms[platform];
  const main = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const folder = join(out, platform);
  const file = `cupel-native.${platform}.node`;
  mkdirSync(folder, { recursive: true });
  copyFileSync(addon, join(folder, file));
  for (const name of ['LICENSE', 'NOTICE']) {
    if (existsSync(join(root, name))) copyFileSync(join(root, name), join(folder, name));
  }
  writeJson(join(folder, 'package.json'), {
    name: packageName(platform),
    version: main.version,
    description: `The compiled native engine of cupel for ${platform}`,
    license: main.license,
    main: file,
    files: [file, 'NOTICE'],
    engines: main.engines,
    os: [os],
    cpu: [cpu],
    ...(libc === undefined ? {} : { libc: [libc] }),
  });
  return folder;
}

/**
 * The main package's manifest with the packages that lie in `out` as optional dependencies, and without what builds the
 * addon at installation: whoever installs it has a prebuilt addon, or is told what is missing when it is first used.
 */
export function mainManifest({ root, out }) {
  const { scripts, devDependencies: _, ...main } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const { prepare: _prepare, ...kept } = scripts ?? {};
  const packed = Object.keys(platforms).filter((platform) => existsSync(join(out, platform, 'package.json')));
  return {
    ...main,
    files: [...(main.files ?? []), '!dist/**/*.node'],
    scripts: kept,
    optionalDependencies: Object.fromEntries(packed.map((platform) => [packageName(platform), main.version])),
  };
}

/**
 * The installed package with the addon of a platform.
 * @returns {{ name: string, version: string } | null}
 */
export function installedPrebuilt({ root, platform = currentPlatform() }) {
  if (platform === null) return null;
  const file = join(root, 'node_modules', packageName(platform), 'package.json');
  if (!existsSync(file)) return null;
  const { name, version, main } = JSON.parse(readFileSync(file, 'utf8'));
  return existsSync(join(dirname(file), main)) ? { name, version } : null;
}

function writeJson(file, value) {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(value, null, 2)}\n`);
}

function run() {
  const root = join(dirname(fileURLToPath(import.meta.url)), '..');
  const { values } = parseArgs({
    options: {
      out: { type: 'string', default: join(root, 'engines', 'native', 'target', 'npm') },
      platform: { type: 'string', default: currentPlatform() ?? 'unknown' },
      addon: { type: 'string', default: join(root, 'engines', 'native', 'cupel-native.node') },
      manifest: { type: 'boolean', default: false },
    },
  });
  const { platform, addon, manifest } = values;
  const out = resolve(values.out);
  if (!Object.hasOwn(platforms, platform)) {
    process.stderr.write(`no package is made for platform ${platform}; known: ${Object.keys(platforms).join(', ')}\n`);
    return 2;
  }
  if (!existsSync(addon)) {
    process.stderr.write(`${basename(addon)} has not been built: run npm run prepare first (looked for ${addon})\n`);
    return 2;
  }
  process.stdout.write(`${packPrebuilt({ root, out, platform, addon })}\n`);
  if (manifest) {
    writeJson(join(out, 'package.json'), mainManifest({ root, out }));
    process.stdout.write(`${join(out, 'package.json')}\n`);
  }
  return 0;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) process.exitCode = run();
