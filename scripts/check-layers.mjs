// Layer check: dependency-cruiser over the whole house, and proof that it saw modules at all.
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = process.argv[2] ?? join(dirname(fileURLToPath(import.meta.url)), '..');
const cruiser = join(
  dirname(fileURLToPath(import.meta.url)),
  '..',
  'node_modules/dependency-cruiser/bin/dependency-cruise.mjs',
);
const folders = ['src', 'engines', 'judges', 'trainers', 'reports', 'suites'];
const result = spawnSync(
  process.execPath,
  [cruiser, '--config', join(root, '.dependency-cruiser.cjs'), '--output-type', 'json', ...folders],
  {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 256 * 1024 * 1024,
  },
);
if (!result.stdout) {
  process.stderr.write(result.stderr);
  process.exit(1);
}
const { summary } = JSON.parse(result.stdout);
for (const { rule, from, to, cycle } of summary.violations) {
  const path = cycle ? cycle.map((step) => step.name ?? step).join(' → ') : to;
  console.error(`${rule.severity} ${rule.name}: ${from} → ${path}`);
}
console.log(
  `layers: ${summary.totalCruised} modules, ${summary.totalDependenciesCruised} imports, ${summary.violations.length} violations`,
);
// A misconfigured cruiser sees nothing and says "no violations".
const blind = summary.totalCruised < 20;
if (blind) console.error(`layers: only ${summary.totalCruised} modules were seen; the check is blind`);
process.exit(blind || summary.violations.some(({ rule }) => rule.severity === 'error') ? 1 : 0);
