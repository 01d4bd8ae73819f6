// Builds the native engine with cargo and puts the addon where the TypeScript face loads it:
// engines/native/ for running from source, dist/engines/native/ where dist/ has been built. Where cargo is absent, the
// prebuilt package of the platform (scripts/prebuilt.mjs) will do, if it is installed.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { currentPlatform, installedPrebuilt, packageName } from './prebuilt.mjs';

const addonName = 'cupel-native.node';

/** What to tell where cargo is missing: code, what, where, how to mend it. */
export function cargoMissing(platform = currentPlatform()) {
  const prebuilt = platform === null ? null : packageName(platform);
  return [
    'CUPEL_NATIVE_CARGO_MISSING: the native engine has to be compiled, and cargo (Rust) was not found',
    `  at: PATH${prebuilt === null ? '' : `; nor is the prebuilt package ${prebuilt} of this version installed`}`,
    '  mend: install Rust (https://rustup.rs, or your system’s packages rustc and cargo), then run: npm run prepare',
  ].join('\n');
}

/** Name of the library that cargo writes on a platform. */
export function libraryName(platform) {
  if (platform === 'win32') return 'cupel_node.dll';
  return platform === 'darwin' ? 'libcupel_node.dylib' : 'libcupel_node.so';
}

/** True if `target` is missing, or differs from `source` in size or is older. */
export function isStale(source, target) {
  if (!existsSync(target)) return true;
  const [from, to] = [statSync(source), statSync(target)];
  return from.size !== to.size || from.mtimeMs > to.mtimeMs;
}

/** Copies by way of a temporary file: a process that has the old addon loaded keeps it. */
export function place(source, target) {
  mkdirSync(dirname(target), { recursive: true });
  const temporary = `${target}.${process.pid}.tmp`;
  try {
    copyFileSync(source, temporary);
    renameSync(temporary, target);
  } finally {
    rmSync(temporary, { force: true });
  }
}

/**
 * Builds and places the addon.
 * @returns {{ status: number, placed: string[], message?: string }} status 0, or that of a failure with its message;
 *   the message says also where a prebuilt package stands in.
 */
export function buildNative({
  root,
  platform = process.platform,
  cargo = process.env.CARGO ?? 'cargo',
  environment = process.env,
}) {
  const crate = join(root, 'engines', 'native');
  const cargoArguments = ['build', '--release', '--locked', '--package', 'cupel-node'];
  const [command, commandArguments] =
    platform === 'win32' ? [cargo, cargoArguments] : ['nice', [cargo, ...cargoArguments]];
  const found = spawnSync(cargo, ['--version'], { env: environment, stdio: 'ignore' });
  if (found.error || found.status !== 0) {
    const prebuilt = installedPrebuilt({ root });
    if (prebuilt === null || prebuilt.version !== versionOf(root)) {
      return { status: 2, placed: [], message: cargoMissing() };
    }
    const message = `cargo was not found; the native engine is that of ${prebuilt.name}@${prebuilt.version}`;
    return { status: 0, placed: [], message };
  }
  const built = spawnSync(command, commandArguments, {
    cwd: crate,
    env: environment,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if (built.status !== 0) {
    const message = [
      `CUPEL_NATIVE_BUILD_FAILED: cargo build ended with ${built.status ?? built.signal ?? built.error?.message}`,
      `  at: ${crate}`,
      '  mend: read the compiler’s message above; an old Rust is the usual cause: update it, then run: npm run prepare',
    ].join('\n');
    return { status: 70, placed: [], message };
  }
  const library = resolve(crate, environment.CARGO_TARGET_DIR ?? 'target', 'release', libraryName(platform));
  const targets = [join(crate, addonName)];
  if (existsSync(join(root, 'dist'))) targets.push(join(root, 'dist', 'engines', 'native', addonName));
  const placed = targets.filter((target) => isStale(library, target));
  for (const target of placed) place(library, target);
  return { status: 0, placed };
}

function versionOf(root) {
  const file = join(root, 'package.json');
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).version : null;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const root = join(dirname(fileURLToPath(import.meta.url)), '..');
  const { status, message } = buildNative({ root });
  if (message !== undefined) process.stderr.write(`${message}\n`);
  process.exitCode = status;
}
