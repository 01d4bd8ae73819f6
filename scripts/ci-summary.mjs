// Closing line of CI: vitest's counts, plus one failure for each other step that failed.
import { existsSync, readFileSync } from 'node:fs';

const [file, ...failedSteps] = process.argv.slice(2);
const results = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : null;
const passed = results?.numPassedTests ?? 0;
const skipped = (results?.numPendingTests ?? 0) + (results?.numTodoTests ?? 0);
const failedTests = results?.numFailedTests ?? 0;
const failed = failedTests + failedSteps.filter((step) => step !== 'test' || failedTests === 0).length;
for (const step of failedSteps) console.log(`failed step: ${step}`);
if (results === null || passed === 0) console.log('no test was counted');
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exit(failed === 0 && failedSteps.length === 0 && passed > 0 ? 0 : 1);
