// Builds dist/ (a mirror of this tree) and the native addon. Runs by itself in `npm ci` and `npm install`.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, readdirSync, rmSync } from 'node:fs';
import { dirname, extname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const run = (file, ...args) => {
  const { status } = spawnSync(process.execPath, [join(root, file), ...args], { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
};

rmSync(join(root, 'dist'), { recursive: true, force: true });
run('scripts/build-templates.mjs');
run('node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json');

// Data that code reads beside itself: everything in the plugin folders that is not source.
const isSource = new Set(['.ts', '.rs', '.toml', '.lock', '.node']);
for (const folder of ['suites', 'reports', 'trainers', 'src']) {
  copyData(join(root, folder));
}

run('scripts/build-native.mjs');

function copyData(folder) {
  if (!existsSync(folder)) return;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const from = join(folder, entry.name);
    if (entry.isDirectory()) copyData(from);
    else if (!isSource.has(extname(entry.name)))
      cpSync(from, join(root, 'dist', relative(root, from).split(sep).join(sep)));
  }
}
