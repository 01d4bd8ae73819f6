// Installs the peer in an ignored folder: exactly pinned packages with compiled libraries, and no script is run.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { foreignFunctions, peerPackage, peerVersion } from './llama-cpp.ts';

const dependencies = { [peerPackage]: peerVersion.package, [foreignFunctions.name]: foreignFunctions.version };

/** @returns the folder of the peers. @throws if npm cannot install them. */
export function installPeers(root: string): string {
  const folder = join(root, 'llama-cpp');
  if (Object.entries(dependencies).every(([name, version]) => installed(folder, name) === version)) return folder;
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'bench-peers', private: true, dependencies }));
  const options = ['install', '--no-audit', '--no-fund', '--ignore-scripts', '--loglevel=error'];
  const { status, stderr, error } = spawnSync('npm', options, { cwd: folder, encoding: 'utf8' });
  if (status !== 0) throw new Error(`npm could not install the peer: ${error?.message ?? stderr.slice(-600)}`);
  return folder;
}

function installed(folder: string, name: string): string | undefined {
  const file = join(folder, 'node_modules', name, 'package.json');
  if (!existsSync(file)) return undefined;
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
