import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Platforms that packages with a compiled addon are made for (scripts/prebuilt.mjs), as napi-rs names them. */
const platforms: Readonly<Record<string, string>> = {
  'linux x64 glibc': 'linux-x64-gnu',
  'linux x64 musl': 'linux-x64-musl',
  'linux arm64 glibc': 'linux-arm64-gnu',
  'linux arm64 musl': 'linux-arm64-musl',
  'darwin x64': 'darwin-x64',
  'darwin arm64': 'darwin-arm64',
  'win32 x64': 'win32-x64-msvc',
};

/** Name of the package with the compiled addon of a platform; null where none is made. */
export function prebuiltName(
  platform: string = process.platform,
  architecture: string = process.arch,
  library: string | null = platform === 'linux' ? libraryOfC() : null,
): string | null {
  const name = platforms[[platform, architecture, ...(library === null ? [] : [library])].join(' ')];
  return name === undefined ? null : `cupel-native-${name}`;
}

/**
 * The addon of this platform's package, if it is installed in the version of this package: another one may not
 * understand what it is asked.
 * @param resolve of a `require`
 */
export function prebuiltAddon(
  resolve: (request: string) => string,
  version: string,
  name: string | null = prebuiltName(),
): string | null {
  if (name === null) return null;
  try {
    const manifest = resolve(`${name}/package.json`);
    const found = JSON.parse(readFileSync(manifest, 'utf8')) as { version?: unknown; main?: unknown };
    if (found.version !== version || typeof found.main !== 'string') return null;
    const file = join(dirname(manifest), found.main);
    return existsSync(file) ? file : null;
  } catch {
    return null;
  }
}

/** `musl` where its loader is and glibc does not run this process. */
function libraryOfC(): string {
  const header = (process.report.getReport() as { header?: { glibcVersionRuntime?: string } }).header;
  if (header?.glibcVersionRuntime !== undefined) return 'glibc';
  const loaders = existsSync('/lib') ? readdirSync('/lib') : [];
  return loaders.some((name) => name.startsWith('ld-musl-')) ? 'musl' : 'glibc';
}
